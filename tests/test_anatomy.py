"""Names, colours and codes of structures."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_sightline.anatomy import REGIONS, STRUCTURES, by_name, search


def test_every_region_is_covered() -> None:
    assert {structure.region for structure in STRUCTURES} == set(REGIONS)
    assert {"head and neck", "thorax", "abdomen", "pelvis", "brain"} < set(REGIONS)


def test_names_and_synonyms_are_unique() -> None:
    names = [n.casefold() for s in STRUCTURES for n in (s.name, *s.synonyms)]
    assert len(names) == len(set(names))


def test_colours_are_unique_and_in_range() -> None:
    colours = [structure.colour for structure in STRUCTURES]
    assert len(colours) == len(set(colours))
    assert all(len(c) == 3 and all(0 <= v <= 255 for v in c) for c in colours)


def verhoeff(number: str) -> bool:
    """Tell whether the check digit of a SNOMED CT identifier is right."""
    multiply = [
        [
            (i + j) % 5 + (5 if j >= 5 else 0) if i < 5 else (i - j) % 5 + (5 if j < 5 else 0)
            for j in range(10)
        ]
        for i in range(10)
    ]
    permute = [list(range(10)), [1, 5, 7, 6, 2, 8, 3, 0, 9, 4]]
    for _ in range(6):
        permute.append([permute[-1][k] for k in permute[1]])
    check = 0
    for position, digit in enumerate(reversed(number)):
        check = multiply[check][permute[position % 8][int(digit)]]
    return check == 0


def test_codes_carry_the_check_digit_of_snomed_ct() -> None:
    codes = [structure.code for structure in STRUCTURES if structure.code]
    assert len(codes) > 100
    assert [code for code in codes if not verhoeff(code)] == []
    assert not verhoeff("10200003")  # liver is 10200004


_SAME = {"oesophagus": "esophagus", "coeliac": "celiac", "caecum": "cecum", "tumour": "tumor"}


def _stems(text: str) -> set[str]:
    """Beginnings of the words that matter: structure and structural, pons and pontine alike."""
    words = re.findall(r"[a-z0-9]+", text.lower())
    return {_SAME.get(word, word)[:5] for word in words if word not in ("of", "the")}


def test_codes_mean_what_dicom_says_they_mean() -> None:
    concepts = pytest.importorskip("pydicom.sr._concepts_dict").concepts["SCT"]
    meanings: dict[str, list[str]] = {}
    for entry in concepts.values():
        for code, (meaning, _) in entry.items():
            meanings.setdefault(code, []).append(meaning)
    unknown, wrong = [], []
    for structure in STRUCTURES:
        if structure.code is None:
            continue
        if structure.code not in meanings:
            unknown.append(structure.name)
            continue
        names = [structure.name, *structure.synonyms]
        if structure.side:
            names = [name.removeprefix(f"{structure.side} ") for name in names]
        said = [_stems(meaning) for meaning in meanings[structure.code]]
        if not any(_stems(name) <= words for name in names for words in said):
            wrong.append((structure.name, meanings[structure.code]))
    assert wrong == []
    assert unknown == []


def test_one_code_means_one_structure_on_either_side() -> None:
    seen: dict[str, str] = {}
    for structure in STRUCTURES:
        if structure.code:
            bare = structure.name.removeprefix("right ").removeprefix("left ")
            what = bare if structure.side else structure.name
            assert seen.setdefault(structure.code, what) == what


def test_pairs_are_complete() -> None:
    for structure in STRUCTURES:
        if structure.side:
            other = "left" if structure.side == "right" else "right"
            twin = by_name(structure.name.replace(structure.side, other, 1))
            assert twin is not None
            assert twin.side == other
            assert (twin.code, twin.region) == (structure.code, structure.region)


@pytest.mark.parametrize(
    ("asked", "name"),
    [
        ("brainstem", "brainstem"),
        ("Spinal_Cord", "spinal cord"),
        ("right parotid", "right parotid gland"),
        ("LEFT-PAROTID", "left parotid gland"),
        ("esophagus", "oesophagus"),
        ("oesophagus", "oesophagus"),
        ("tumor", "tumour"),
        ("left ventricle", "left ventricle"),
    ],
)
def test_by_name_knows_synonyms_and_spellings(asked: str, name: str) -> None:
    found = by_name(asked)
    assert found is not None
    assert found.name == name


@pytest.mark.parametrize("asked", ["", "  ", "lesion of mine", "パロティス"])
def test_by_name_of_a_users_own_name_is_none(asked: str) -> None:
    assert by_name(asked) is None


def test_search_puts_the_name_before_words_before_synonyms() -> None:
    names = [structure.name for structure in search("lung")]
    assert names[:2] == ["right lung", "left lung"]
    assert search("heart")[0].name == "heart"
    assert search("pons")[0].name == "pons"
    assert search("tumor")[0].name == "tumour"


def test_search_takes_the_beginnings_of_words_in_any_order() -> None:
    assert [s.name for s in search("paro r")] == ["right parotid gland"]
    assert {s.name for s in search("kidn")} == {"right kidney", "left kidney"}
    assert search("xyzzy") == search("パロティス") == []


def test_search_for_nothing_finds_everything_in_order() -> None:
    assert search("") == list(STRUCTURES)


@given(st.sampled_from(STRUCTURES), st.data())
def test_search_finds_a_structure_while_its_name_is_typed(structure, data) -> None:
    length = data.draw(st.integers(1, len(structure.name)))
    assert structure in search(structure.name[:length])
    assert search(structure.name)[0] == structure
    assert by_name(structure.name) == structure


@given(st.text())
def test_search_takes_any_text(text: str) -> None:
    assert set(search(text)) <= set(STRUCTURES)

"""Names, display colours and SNOMED CT codes of structures that readers contour.

A list for choosing a name in the panel and for giving labels the same
colour everywhere. Codes are those of SNOMED CT as listed by DICOM (PS3.16) and
say *what* a structure is; the side of a paired one is kept apart, as DICOM keeps
it. A structure whose code is not certain has none.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from functools import cache
from typing import Literal

Side = Literal["right", "left"]
Colour = tuple[int, int, int]

SIDE_CODES: dict[Side, str] = {"right": "24028007", "left": "7771000"}
"""SNOMED CT codes of the two sides, for the laterality of a structure."""


@dataclass(frozen=True, slots=True)
class Structure:
    """One structure that can be segmented.

    Attributes
    ----------
    name : str
        British English, lower case, the side first: ``"right parotid gland"``.
    region : str
        One of `REGIONS`.
    colour : tuple of int
        Red, green, blue, 0 to 255.
    code : str or None
        SNOMED CT code; None where not certain.
    side : {"right", "left"} or None
        The patient's side, where the code does not say it: a parotid gland has
        a side, the left ventricle is a structure of its own.
    synonyms : tuple of str
        Other names that find the structure; American spellings are among them.
    """

    name: str
    region: str
    colour: Colour
    code: str | None = None
    side: Side | None = None
    synonyms: tuple[str, ...] = ()


# One row a structure: name, code, colour, synonyms; "*" before a name: one on either side.
_Row = tuple[str, str | None, str, tuple[str, ...]]

_TABLE: dict[str, tuple[_Row, ...]] = {
    "head and neck": (
        ("brainstem", "119238007", "#7b9fd4", ("brain stem",)),
        ("spinal cord", "2748008", "#f5d547", ("cord", "myelon")),
        ("spinal canal", "61853006", "#d9c36a", ("vertebral canal",)),
        ("*parotid gland", "45289007", "#e8743b", ("parotid",)),
        ("*submandibular gland", "54019009", "#c9a227", ("submandibular",)),
        ("oral cavity", "74262004", "#d98c8c", ("mouth",)),
        ("tongue", "21974007", "#b5526a", ()),
        ("soft palate", "49460000", "#e0a3b4", ()),
        ("larynx", "4596009", "#3fb5a3", ("voice box",)),
        ("supraglottis", "119255006", "#57c7b8", ("supraglottic larynx",)),
        ("glottis", "1307006", "#2a8f80", ("glottic larynx",)),
        ("pharynx", "54066008", "#c96a4b", ()),
        ("nasopharynx", "360955006", "#d88a6b", ("epipharynx",)),
        ("oropharynx", "31389004", "#bf5b3c", ()),
        ("hypopharynx", "81502006", "#a84a30", ()),
        ("mandible", "91609006", "#efe6c8", ("lower jaw",)),
        ("maxilla", "70925003", "#e2d6ac", ("upper jaw",)),
        ("skull", "89546000", "#f1ead2", ("cranium",)),
        ("thyroid gland", "69748006", "#9b5fc0", ("thyroid",)),
        ("*eye", "81745001", "#4aa3df", ("eyeball", "globe")),
        ("*lens", "78076003", "#a8d8f0", ("lens of the eye",)),
        ("*optic nerve", "18234004", "#f0b429", ()),
        ("optic chiasm", "244453006", "#f7c948", ("chiasm", "chiasma")),
        ("*lacrimal gland", "13561001", "#8cc4b0", ("lachrymal gland",)),
        ("*cochlea", None, "#6d8f3f", ()),
        ("pituitary gland", "56329008", "#d65db1", ("pituitary", "hypophysis")),
        ("*common carotid artery", "32062004", "#c8102e", ("carotid artery", "carotid")),
        ("*internal jugular vein", "12123001", "#2f5fb3", ("jugular vein", "jugular")),
        ("*brachial plexus", "36582005", "#b8b03a", ()),
        ("lymph node", "59441001", "#6aa84f", ("node",)),
        ("hyoid bone", "21387005", "#68ce86", ("hyoid",)),
        ("*palatine tonsil", "75573002", "#903eca", ("tonsil",)),
        ("lip", "48477009", "#b1a029", ("lips",)),
        ("nasal cavity", "279549004", "#5ac9e0", ("nose cavity",)),
        ("*maxillary sinus", "15924003", "#e02b8d", ("antrum",)),
        ("*frontal sinus", "55060009", "#42c616", ()),
        ("*temporomandibular joint", "53620006", "#7672cb", ("tmj", "jaw joint")),
        ("*retina", "5665001", "#c57249", ()),
        ("*cornea", "28726007", "#2fb080", ()),
        ("*internal auditory canal", "361078006", "#d263dc", ("internal acoustic meatus",)),
        ("*sternocleidomastoid muscle", "22823000", "#b8da36", ("sternocleidomastoid",)),
        ("*trapezius muscle", "31764008", "#1c71c6", ("trapezius",)),
        ("*masseter muscle", None, "#ed5675", ("masseter",)),
        ("pharyngeal constrictor muscles", None, "#53c15d", ("pharyngeal constrictors",)),
        ("*external carotid artery", "22286001", "#6436af", ()),
        ("*internal carotid artery", "86117002", "#41d6d0", ()),
        ("*vertebral artery", "85234005", "#c6239d", ()),
    ),
    "thorax": (
        ("oesophagus", "32849002", "#b7885a", ("esophagus", "gullet")),
        ("trachea", "44567001", "#8fd3e8", ("windpipe",)),
        ("right main bronchus", "70074004", "#75bcd6", ("right bronchus",)),
        ("left main bronchus", "75245000", "#9ed0e2", ("left bronchus",)),
        ("*lung", "39607008", "#9ac7e0", ()),
        ("heart", "80891009", "#c0392b", ()),
        ("right atrium", "73829009", "#5b78c7", ()),
        ("left atrium", "82471001", "#d4574a", ()),
        ("right ventricle", "53085002", "#3b5bb0", ()),
        ("left ventricle", "87878005", "#a8281d", ()),
        ("pericardium", "76848001", "#e59a90", ()),
        ("aorta", "15825003", "#e0241b", ()),
        ("pulmonary artery", "81040000", "#4f6fc4", ()),
        ("pulmonary vein", "122972007", "#d1495b", ()),
        ("superior vena cava", "48345005", "#3556a8", ("svc",)),
        ("brachiocephalic trunk", "12691009", "#d8373f", ("innominate artery",)),
        ("*subclavian artery", "36765005", "#cf4a52", ()),
        ("*breast", "76752008", "#eab8a6", ()),
        ("thymus", "9875009", "#a37fb8", ()),
        ("diaphragm", "5798000", "#9c4f4f", ()),
        ("sternum", "56873002", "#e9dcb4", ("breastbone",)),
        ("rib", "113197003", "#e4d5a6", ("ribs",)),
        ("*scapula", "79601000", "#dccb96", ("shoulder blade",)),
        ("*clavicle", "51299004", "#d5c289", ("collar bone",)),
        ("*humerus", "85050009", "#cdb97d", ()),
        ("vertebra", "51282000", "#eee0b0", ("vertebrae",)),
        ("vertebral column", "421060004", "#e6d69c", ("spine", "backbone")),
        ("*upper lobe of the lung", "45653009", "#9ee960", ("upper lobe",)),
        ("right middle lobe of the lung", "72481006", "#304eea", ("middle lobe",)),
        ("*lower lobe of the lung", "90572001", "#ae4c3e", ("lower lobe",)),
        ("ascending aorta", "54247002", "#76d59e", ()),
        ("aortic arch", "57034009", "#ab4cd1", ("arch of the aorta",)),
        ("descending aorta", "281130003", "#c4c52a", ()),
        ("mediastinum", "72410000", "#69c1e5", ()),
        ("pleura", "3120008", "#e53b81", ()),
        ("azygos vein", "72107004", "#2ddd15", ()),
        ("left main coronary artery", "3227004", "#8d7fd3", ("left coronary artery",)),
        ("right coronary artery", "13647002", "#cd8d56", ()),
        ("*brachiocephalic vein", "8887007", "#31c4a0", ("innominate vein",)),
    ),
    "abdomen": (
        ("liver", "10200004", "#8e4a2f", ()),
        ("gallbladder", "28231008", "#5f9e3a", ("gall bladder",)),
        ("spleen", "78961009", "#8d5aa3", ()),
        ("pancreas", "15776009", "#e3b04b", ()),
        ("*kidney", "64033007", "#b5533c", ()),
        ("*adrenal gland", "23451007", "#e6a15c", ("adrenal", "suprarenal gland")),
        ("*ureter", "87953007", "#d9b36c", ()),
        ("stomach", "69695003", "#d47f8f", ()),
        ("duodenum", "38848004", "#e2a0a0", ()),
        ("small intestine", "30315005", "#d8a47f", ("small bowel", "jejunum and ileum")),
        ("large intestine", "14742008", "#b98a64", ("large bowel",)),
        ("colon", "71854001", "#a9794f", ()),
        ("caecum", "32713005", "#96683f", ("cecum",)),
        ("appendix", "66754008", "#845a34", ("vermiform appendix",)),
        ("inferior vena cava", "64131007", "#2c4a99", ("ivc",)),
        ("portal vein", "32764006", "#5a7fc7", ()),
        ("splenic vein", "35819009", "#6f90d0", ()),
        ("hepatic vein", "8993003", "#486cb8", ()),
        ("superior mesenteric artery", "42258001", "#e2504a", ("sma",)),
        ("skeletal muscle", "127954009", "#a65050", ("muscle",)),
        ("skin", "39937001", "#e8c39e", ()),
        ("jejunum", "21306003", "#e273dd", ()),
        ("ileum", "34516001", "#ace146", ()),
        ("ascending colon", "9040008", "#1c63dc", ()),
        ("transverse colon", "485005", "#f16772", ()),
        ("descending colon", "32622004", "#60c977", ()),
        ("abdominal aorta", "7832008", "#7e38c2", ()),
        (
            "coeliac artery",
            "57850000",
            "#dfcb7c",
            ("celiac artery", "celiac axis", "coeliac trunk"),
        ),
        ("inferior mesenteric artery", "33795007", "#50d0dc", ("ima",)),
        ("superior mesenteric vein", "90771006", "#db2395", ("smv",)),
        ("*renal artery", "2841007", "#99ee70", ()),
        ("*renal vein", "56400007", "#4147ef", ()),
        ("hepatic artery", "76015000", "#c06141", ()),
        ("common bile duct", "79741001", "#85dcb5", ("bile duct",)),
        ("peritoneum", "15425007", "#c45ad8", ()),
        ("*psoas muscle", None, "#c0d62d", ("psoas",)),
        ("subcutaneous fat", "71966008", "#79bbeb", ("subcutaneous tissue",)),
    ),
    "pelvis": (
        ("urinary bladder", "89837001", "#e9d24b", ("bladder",)),
        ("rectum", "34402009", "#9a6a48", ()),
        ("sigmoid colon", "60184004", "#b07a52", ("sigmoid",)),
        ("anus", "53505006", "#7f5336", ("anal canal",)),
        ("prostate", "41216001", "#6f9bd1", ("prostate gland",)),
        ("*seminal vesicle", "64739004", "#8fb3dd", ()),
        ("*testis", "40689003", "#a2bfe0", ("testicle",)),
        ("penis", "18911002", "#c79a8c", ()),
        ("uterus", "35039007", "#d1668b", ("womb",)),
        ("cervix of the uterus", "71252005", "#b84a72", ("cervix", "cervix uteri")),
        ("*ovary", "15497006", "#e28aaa", ()),
        ("vagina", "76784001", "#c77b98", ()),
        ("*femur", "71341001", "#e7dab2", ("thigh bone",)),
        ("*femoral head", "2812003", "#f0e5c4", ("head of the femur",)),
        ("*hip bone", None, "#dfcfa0", ("pelvic bone", "innominate bone")),
        ("*ilium", "22356005", "#d6c493", ()),
        ("sacrum", "54735007", "#cdb986", ()),
        ("coccyx", "64688005", "#c4ae79", ("tail bone",)),
        ("*common iliac artery", "73634005", "#d93b34", ("iliac artery",)),
        ("*common iliac vein", "46027005", "#3a5cab", ("iliac vein",)),
        ("*external iliac artery", "113269004", "#ea4b79", ()),
        ("*internal iliac artery", "90024005", "#4cbb4c", ()),
        ("*fallopian tube", "31435000", "#5635a3", ("uterine tube",)),
        ("*epididymis", "87644002", "#d4a664", ()),
        ("urethra", "13648007", "#38d1bf", ()),
        ("perineum", "38864007", "#b9239f", ()),
        ("penile bulb", None, "#a3e655", ("bulb of the penis",)),
        ("*pubis", None, "#2655e7", ("pubic bone",)),
        ("*ischium", "85710004", "#a2413c", ()),
    ),
    "brain": (
        ("brain", "12738006", "#e3b7b0", ()),
        ("*cerebral hemisphere", "372073000", "#d9a69e", ("hemisphere",)),
        (
            "*cerebral cortex",
            "40146001",
            "#c99a8f",
            ("cortical grey matter", "cortical gray matter"),
        ),
        ("*cerebral white matter", "68523003", "#f3eee6", ("white matter",)),
        ("cerebellum", "113305005", "#c58bb0", ()),
        ("midbrain", "61962009", "#8fa8dc", ("mesencephalon",)),
        ("pons", None, "#6a8ac9", ()),
        ("medulla oblongata", None, "#5476b5", ("medulla",)),
        ("*thalamus", "42695009", "#2e9e5b", ()),
        ("hypothalamus", None, "#58a86f", ()),
        ("*caudate nucleus", "11000004", "#7ec8e3", ("caudate",)),
        ("*putamen", "89278009", "#ec6fb0", ()),
        ("*globus pallidus", "14738005", "#3d5a98", ("pallidum",)),
        ("*nucleus accumbens", "427667007", "#f29e4c", ("accumbens",)),
        ("*hippocampus", "5366008", "#dcd03f", ("hippocampal formation",)),
        ("*amygdala", "4958002", "#5fd3d0", ()),
        ("*insula", "36169008", "#b39ddb", ("insular cortex",)),
        ("*lateral ventricle", "66720007", "#7852b5", ()),
        ("third ventricle", "49841001", "#9a78cc", ()),
        ("fourth ventricle", "35918002", "#b79ade", ()),
        ("corpus callosum", "88442005", "#f4f0c0", ("callosum",)),
        ("cerebrospinal fluid", "65216001", "#9fd0f5", ("csf", "liquor")),
        ("*frontal lobe", "83251001", "#6ed18f", ()),
        ("*parietal lobe", "16630005", "#9a43cd", ()),
        ("*temporal lobe", "78277001", "#b8ad29", ()),
        ("*occipital lobe", "31065004", "#5fc6e2", ()),
        ("*internal capsule", "85637007", "#e23188", ()),
        ("*substantia nigra", "70007007", "#3bcf16", ()),
        ("cerebral aqueduct", "80447000", "#7f77ce", ("aqueduct",)),
        ("choroid plexus", "80621003", "#c87d4e", ()),
        ("pineal gland", "45793000", "#30b78b", ("pineal body", "epiphysis cerebri")),
        ("*cingulum", "37035000", "#db69de", ()),
        ("*fornix", "87463005", "#b3dd3c", ()),
        ("*optic tract", "53238003", "#1c6cce", ()),
    ),
    "spine": (
        ("C1 vertebra", "14806007", "#ef5c73", ("cervical vertebra 1",)),
        ("C2 vertebra", "39976000", "#58c467", ("cervical vertebra 2",)),
        ("C3 vertebra", "113205007", "#6d37b6", ("cervical vertebra 3",)),
        ("C4 vertebra", "5329002", "#dbbe73", ("cervical vertebra 4",)),
        ("C5 vertebra", "36978003", "#47d7d8", ("cervical vertebra 5",)),
        ("C6 vertebra", "36054005", "#ce239a", ("cervical vertebra 6",)),
        ("C7 vertebra", "87391001", "#9ceb66", ("cervical vertebra 7",)),
        ("T1 vertebra", "64864005", "#364bec", ("thoracic vertebra 1",)),
        ("T2 vertebra", "53733008", "#7cd8a7", ("thoracic vertebra 2",)),
        ("T3 vertebra", "1626008", "#b551d4", ("thoracic vertebra 3",)),
        ("T4 vertebra", "73071006", "#c4cd2a", ("thoracic vertebra 4",)),
        ("T5 vertebra", "56401006", "#6fbee7", ("thoracic vertebra 5",)),
        ("T6 vertebra", "45296009", "#e7417e", ("thoracic vertebra 6",)),
        ("T7 vertebra", "62487009", "#24e515", ("thoracic vertebra 7",)),
        ("T8 vertebra", "11068009", "#9684d5", ("thoracic vertebra 8",)),
        ("T9 vertebra", "82687006", "#d0975b", ("thoracic vertebra 9",)),
        ("T10 vertebra", "7610001", "#31ccad", ("thoracic vertebra 10",)),
        ("T11 vertebra", "12989004", "#e479da", ("thoracic vertebra 11",)),
        ("T12 vertebra", "23215003", "#1c5ce4", ("thoracic vertebra 12",)),
        ("L1 vertebra", "66794005", "#f36d71", ("lumbar vertebra 1",)),
        ("L2 vertebra", "14293000", "#65cc80", ("lumbar vertebra 2",)),
        ("L3 vertebra", "36470004", "#893bc8", ("lumbar vertebra 3",)),
        ("L4 vertebra", "11994002", "#e1d382", ("lumbar vertebra 4",)),
        ("L5 vertebra", "49668003", "#56ccde", ("lumbar vertebra 5",)),
    ),
    "tumour and lesion": (
        ("tumour", "108369006", "#ff3b6b", ("tumor", "neoplasm")),
        ("primary tumour", "372087000", "#ff5c3b", ("primary tumor", "primary")),
        (
            "metastasis",
            "14799000",
            "#e01e8c",
            ("metastases", "secondary tumour", "secondary tumor"),
        ),
        ("gross tumour volume", "228791009", "#ff2020", ("gross tumor volume", "gtv")),
        ("clinical target volume", "228792002", "#ff8fb0", ("ctv",)),
        ("sarcoma", "1187396000", "#d6336c", ("soft-tissue sarcoma",)),
        ("lymphoma", "1163043007", "#c2255c", ()),
        ("glioma", None, "#f06595", ()),
        ("meningioma", None, "#f783ac", ()),
        ("carcinoma", "1187425009", "#e64980", ()),
        ("mass", "4147007", "#d9480f", ()),
        ("nodule", "27925004", "#f76707", ()),
        ("cyst", "367643001", "#22b8cf", ()),
        ("lesion", "52988006", "#fa5252", ()),
        ("oedema", "79654002", "#74c0fc", ("edema",)),
        ("necrosis", "6574001", "#5c5f66", ("necrotic core",)),
        ("haemorrhage", "50960005", "#9b1c1c", ("hemorrhage", "bleed", "bleeding")),
        ("haematoma", "35566002", "#7a1f3d", ("hematoma",)),
        ("abscess", "44132006", "#a9e34b", ()),
        ("aneurysm", "85659009", "#f03e3e", ()),
        ("glioblastoma", "1163375002", "#46c116", ("gbm",)),
        ("adenoma", "1187375007", "#706fc9", ()),
        ("haemangioma", "400210000", "#c36c46", ("hemangioma",)),
        ("lipoma", "134328007", "#2fab79", ()),
        ("squamous cell carcinoma", "1162767002", "#cd60db", ()),
        ("adenocarcinoma", "1187332001", "#1c73c1", ()),
        ("hepatocellular carcinoma", None, "#ec5276", ("hcc",)),
        ("calcification", None, "#50bf56", ()),
        ("planning target volume", "228793007", "#5e36aa", ("ptv",)),
        ("thrombus", "396339007", "#d7af6a", ("clot",)),
        ("infarct", None, "#3ed4ca", ("infarction",)),
        ("pleural effusion", "60046008", "#c1239e", ("effusion",)),
        ("atelectasis", None, "#a0e85c", ()),
        ("pneumothorax", "36118008", "#2c51e9", ()),
    ),
}

REGIONS: tuple[str, ...] = tuple(_TABLE)
"""Regions of the body in the order in which menus show them."""


def _colour(hexadecimal: str, lighten: float = 0.0) -> Colour:
    """Turn ``"#rrggbb"`` into three numbers, mixed with white by ``lighten``."""
    r, g, b = (int(hexadecimal[i : i + 2], 16) for i in (1, 3, 5))
    return tuple(round(c + (255 - c) * lighten) for c in (r, g, b))  # type: ignore[return-value]


def _build() -> tuple[Structure, ...]:
    built: list[Structure] = []
    sides: tuple[Side, ...] = ("right", "left")
    for region, rows in _TABLE.items():
        for name, code, colour, synonyms in rows:
            if not name.startswith("*"):
                built.append(Structure(name, region, _colour(colour), code, None, synonyms))
                continue
            for side in sides:
                built.append(
                    Structure(
                        name=f"{side} {name[1:]}",
                        region=region,
                        colour=_colour(colour, 0.3 if side == "left" else 0.0),
                        code=code,
                        side=side,
                        synonyms=tuple(f"{side} {synonym}" for synonym in synonyms),
                    )
                )
    return tuple(built)


STRUCTURES: tuple[Structure, ...] = _build()
"""All structures, region by region."""


def _plain(text: str) -> str:
    """Lower case, without accents, every separator one space."""
    bare = unicodedata.normalize("NFKD", text.casefold())
    return " ".join("".join(c if c.isalnum() else " " for c in bare if c.isascii()).split())


@cache
def _plain_names() -> tuple[tuple[str, ...], ...]:
    """Name and synonyms of each structure, as `_plain` makes them."""
    return tuple(tuple(map(_plain, (s.name, *s.synonyms))) for s in STRUCTURES)


@cache
def _by_plain_name() -> dict[str, Structure]:
    return {
        name: structure
        for structure, names in zip(STRUCTURES, _plain_names(), strict=True)
        for name in names
    }


def by_name(name: str) -> Structure | None:
    """Return the structure with this name or synonym.

    Parameters
    ----------
    name : str
        Case, accents and separators (``_``, ``-``) do not matter.

    Returns
    -------
    Structure or None
        None for a name that is not in the list: readers may use any name.
    """
    return _by_plain_name().get(_plain(name))


def search(text: str) -> list[Structure]:
    """Return the structures that a half-typed text may mean, the likeliest first.

    Parameters
    ----------
    text : str
        Each word must begin a word of the name or of one synonym, in any order:
        ``"paro r"`` finds the right parotid gland. Empty text finds everything.

    Returns
    -------
    list of Structure
        Hits on the whole name first, then on its beginning, then on words of
        the name, then on synonyms; within each in the order of the list.
    """
    wanted = _plain(text)
    if text.strip() and not wanted:  # nothing that any name is written with
        return []
    words = wanted.split()
    ranked: list[tuple[int, int]] = []
    for index, names in enumerate(_plain_names()):
        if names[0] == wanted:
            rank = 0
        elif wanted in names:
            rank = 1
        elif names[0].startswith(wanted):
            rank = 2
        elif _begins(words, names[0]):
            rank = 3
        elif any(_begins(words, name) for name in names[1:]):
            rank = 4
        else:
            continue
        ranked.append((rank, index))
    return [STRUCTURES[index] for _, index in sorted(ranked)]


def _begins(words: list[str], name: str) -> bool:
    """Tell whether each word begins a word of its own in ``name``."""
    left = name.split()
    # The longest first, so that "r" does not take the word that "right" needs.
    for word in sorted(words, key=len, reverse=True):
        hit = next((candidate for candidate in left if candidate.startswith(word)), None)
        if hit is None:
            return False
        left.remove(hit)
    return True

"""Models to download and to import: whole or not there, whatever the network does."""

from __future__ import annotations

import errno
import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))

from hub_making import Host, hosting
from model_making import bundle, logits, scan, swin

from napari_sightline.errors import BadInput, Cancelled, ModelError
from napari_sightline.models import cards, catalog, load_segmenter, store
from napari_sightline.models.cards import CARDS, Card
from napari_sightline.models.download import RemoteFile, fetch, offline, sha256_of
from napari_sightline.models.segmenter import SegmenterSpec
from napari_sightline.models.segmenter_io import write_segmenter

CONTENT = bytes(range(256)) * 8192  # 2 MB
CHUNK = 2**14  # what is cut off of one is lost
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    monkeypatch.setattr("napari_sightline.models.download._WAIT", 0.01)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    with hosting() as made:
        made.files["/model.pt"] = CONTENT
        yield made


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SIGHTLINE_MODELS", str(tmp_path / "models"))
    return tmp_path / "models"


def remote(host: Host, sha256: str | None = DIGEST) -> RemoteFile:
    return RemoteFile("model.pt", f"{host.url}/model.pt", sha256=sha256)


def names(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


# ---- downloads


def test_a_download_tells_how_far_it_is(host: Host, tmp_path: Path) -> None:
    told: list[tuple[float, str]] = []
    (path,) = fetch([remote(host)], tmp_path, lambda *what: told.append(what))
    assert path.read_bytes() == CONTENT
    assert names(tmp_path) == ["model.pt"]
    shares = [share for share, _ in told]
    assert shares == sorted(shares) and shares[-1] == 1.0 and len(set(shares)) > 4
    assert any("of 2 MB" in word for _, word in told)
    fetch([remote(host)], tmp_path)
    assert len(host.ranges) == 1  # what is here is not fetched again


def test_a_connection_that_is_cut_is_resumed(host: Host, tmp_path: Path) -> None:
    host.cuts = [40 * CHUNK + 5, 0, 20 * CHUNK]
    (path,) = fetch([remote(host)], tmp_path)
    assert path.read_bytes() == CONTENT
    starts = [40 * CHUNK, 40 * CHUNK, 60 * CHUNK]
    assert host.ranges == [None, *(f"bytes={start}-" for start in starts)]
    assert names(tmp_path) == ["model.pt"]


def test_a_network_that_is_lost_leaves_no_half_file(host: Host, tmp_path: Path) -> None:
    host.cuts = [30 * CHUNK, *[0] * 8]
    with pytest.raises(ModelError, match=r"stopped at 0 of 2 MB.*run it again") as caught:
        fetch([remote(host)], tmp_path)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "model.pt").exists()
    host.cuts.clear()
    (path,) = fetch([remote(host)], tmp_path)  # another day
    assert path.read_bytes() == CONTENT
    assert host.ranges[-1] == f"bytes={30 * CHUNK}-"


def test_a_host_that_is_not_there(host: Host, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="network failed"):
        fetch([RemoteFile("model.pt", "http://127.0.0.1:9/model.pt")], tmp_path)
    assert names(tmp_path) == []


def test_a_host_that_cannot_resume_begins_again(host: Host, tmp_path: Path) -> None:
    host.cuts, host.resumable = [30 * CHUNK], False
    (path,) = fetch([remote(host)], tmp_path)
    assert path.read_bytes() == CONTENT


def test_a_file_that_changed_meanwhile_begins_again(host: Host, tmp_path: Path) -> None:
    host.cuts = [30 * CHUNK, *[0] * 8]
    with pytest.raises(ModelError):
        fetch([remote(host, None)], tmp_path)
    host.cuts.clear()
    host.files["/model.pt"] = CONTENT[::-1]
    (path,) = fetch([remote(host, None)], tmp_path)
    assert path.read_bytes() == CONTENT[::-1]


def test_a_busy_host_is_asked_again(host: Host, tmp_path: Path) -> None:
    host.codes = [503, 429]
    assert fetch([remote(host)], tmp_path)[0].read_bytes() == CONTENT


@pytest.mark.parametrize(("code", "words"), [(404, "is not at"), (401, "asks for a login")])
def test_a_host_that_refuses(host: Host, tmp_path: Path, code: int, words: str) -> None:
    host.codes = [code]
    with pytest.raises(ModelError, match=words):
        fetch([remote(host)], tmp_path)
    assert names(tmp_path) == []


def test_a_wrong_checksum_is_refused_and_deleted(host: Host, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="checksum is another"):
        fetch([remote(host, "0" * 64)], tmp_path)
    assert names(tmp_path) == []


def test_the_hubs_own_digest_is_used(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", host.url)
    monkeypatch.setattr("huggingface_hub.file_download.constants.ENDPOINT", host.url)
    monkeypatch.setattr(
        "huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE",
        host.url + "/{repo_id}/resolve/{revision}/{filename}",
    )
    host.files["/some/model/resolve/main/models/model.pt"] = CONTENT
    host.linked = True
    file = RemoteFile("models/model.pt", "models/model.pt", "some/model")
    assert file.address == f"{host.url}/some/model/resolve/main/models/model.pt"
    host.cuts = [30 * CHUNK]
    assert fetch([file], tmp_path / "good")[0].read_bytes() == CONTENT
    assert host.ranges == [None, f"bytes={30 * CHUNK}-"]
    host.lie = "f" * 64
    with pytest.raises(ModelError, match="checksum is another"):
        fetch([file], tmp_path / "bad")
    assert names(tmp_path / "bad") == []


def test_cancelling_keeps_what_is_here(host: Host, tmp_path: Path) -> None:
    seen: list[float] = []
    with pytest.raises(Cancelled, match="goes on from there"):
        fetch([remote(host)], tmp_path, lambda share, _: seen.append(share), lambda: len(seen) > 2)
    assert not (tmp_path / "model.pt").exists()
    assert (tmp_path / "model.pt.part").stat().st_size >= 500_000
    assert fetch([remote(host)], tmp_path)[0].read_bytes() == CONTENT
    assert host.ranges[-1] is not None


@pytest.mark.parametrize("word", ["1", "true", "ON", "yes"])
def test_offline_mode_is_honoured(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, word: str
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", word)
    assert offline()
    with pytest.raises(BadInput, match="HF_HUB_OFFLINE is set"):
        fetch([remote(host)], tmp_path)
    assert host.ranges == []


def test_a_full_disk_is_one_sentence(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    with monkeypatch.context() as patch:
        patch.setattr("shutil.disk_usage", lambda _: usage)
        with pytest.raises(BadInput, match="needs 2 MB, but 0 MB are free"):
            fetch([remote(host)], tmp_path)

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        with pytest.raises(BadInput, match="the disk is full"):
            fetch([remote(host)], tmp_path)
    assert not (tmp_path / "model.pt").exists()


def test_one_download_of_a_file_at_a_time(host: Host, tmp_path: Path) -> None:
    from filelock import FileLock

    with FileLock(tmp_path / "model.pt.lock"), pytest.raises(BadInput, match="already"):
        fetch([remote(host)], tmp_path)
    assert host.ranges == []
    assert fetch([remote(host)], tmp_path)[0].read_bytes() == CONTENT
    assert names(tmp_path) == ["model.pt"]


def test_a_folder_that_cannot_be_made(host: Host, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(BadInput, match="cannot be written to"):
        fetch([remote(host)], tmp_path / "file")


def test_an_absurd_size_is_refused(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("napari_sightline.models.download.LARGEST_BYTES", 1000)
    with pytest.raises(ModelError, match="larger than"):
        fetch([remote(host)], tmp_path)
    assert not (tmp_path / "model.pt").exists()


# ---- the catalog


def test_cards_are_honest() -> None:
    assert {"sightline-3d", "swin-unetr-headneck-ct", "swin-unetr-btcv"} <= set(CARDS)
    for name, card in CARDS.items():
        assert name == card.name == store.name_of(name)
        assert card.licence and card.source and card.title
        assert bool(card.files) != (card.file is not None)
        for file in card.files:
            assert file.repository or file.url.startswith("https://")
            assert file.sha256 is None or len(file.sha256) == 64
        if card.task == "automatic":
            assert card.structures


def test_the_catalog_loads_nothing_heavy() -> None:
    code = (
        "import sys\nfrom napari_sightline.models.catalog import entries\nentries()\n"
        "heavy = {'torch', 'monai', 'transformers', 'huggingface_hub', 'requests'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.fixture
def known(host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Card:
    """A bundle at the host, as a card of the catalog."""
    source = bundle(tmp_path / "source", swin(downsample="mergingv2"))
    files = []
    for name in ("configs/metadata.json", "configs/inference.json", "models/model.pt"):
        host.files[f"/{name}"] = (source / name).read_bytes()
        files.append(RemoteFile(name, f"{host.url}/{name}", sha256=sha256_of(source / name)))
    card = Card(
        "organs",
        "Two organs",
        "automatic",
        ("liver", "spleen"),
        licence="CC-BY-4.0",
        source="a test",
        files=tuple(files),
        answers={"merging": "mergingv2"},
    )
    monkeypatch.setitem(CARDS, "organs", card)
    return card


def state_of(name: str) -> catalog.Entry:
    (entry,) = [e for e in catalog.entries() if e.card.name == name]
    return entry


def test_download_load_verify_remove(known: Card, folder: Path) -> None:
    assert state_of("organs").state == "to download"
    with pytest.raises(BadInput, match="sightline models get organs"):
        load_segmenter("organs")
    told: list[float] = []
    made = catalog.download("organs", lambda share, _: told.append(share))
    assert told[-1] == 1.0 and told == sorted(told)
    assert (made.name, made.structures, made.licence) == (
        "organs",
        ("liver", "spleen"),
        "CC-BY-4.0",
    )
    assert names(folder) == ["organs/card.json", "organs/model.safetensors"]
    assert state_of("organs").state == "here" and state_of("organs").sha256 == made.sha256
    segmenter = load_segmenter("organs")
    assert segmenter.spec.name == "organs" and segmenter.spec.source == "a test"
    expected = logits(swin(downsample="mergingv2"), scan())
    assert torch.allclose(logits(segmenter.network, scan()), expected, atol=1e-5)
    assert catalog.verify("organs") == made.sha256
    with pytest.raises(BadInput, match="here already"):
        catalog.download("organs")
    content = bytearray(made.path.read_bytes())
    content[-1] ^= 1
    made.path.write_bytes(content)
    with pytest.raises(ModelError, match="not the file that was put there"):
        catalog.verify("organs")
    catalog.download("organs", overwrite=True)
    catalog.verify("organs")
    catalog.remove("organs")
    assert names(folder) == [] and state_of("organs").state == "to download"
    with pytest.raises(BadInput, match="no model 'organs'"):
        catalog.remove("organs")


def test_an_interrupted_download_is_not_a_model(known: Card, host: Host, folder: Path) -> None:
    host.cuts = [10**9, 10**9, 2 * CHUNK, *[0] * 8]
    with pytest.raises(ModelError, match="network failed"):
        catalog.download("organs")
    assert store.installed() == [] and state_of("organs").state == "to download"
    assert all(name.startswith(".downloads/") for name in names(folder))
    host.cuts.clear()
    requests = len(host.ranges)
    catalog.download("organs")
    assert host.ranges[requests:] == [f"bytes={2 * CHUNK}-"]
    host.cuts = [10**9, 10**9, 2 * CHUNK, *[0] * 8]
    with pytest.raises(ModelError):
        catalog.download("organs", overwrite=True)
    load_segmenter("organs")  # the one that was here is still whole
    catalog.remove("organs")
    assert names(folder) == []


def test_a_publisher_that_says_less_than_before(
    known: Card, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = json.loads(host.files["/configs/inference.json"])
    config["pixdim"] = "$compute()"
    host.files["/configs/inference.json"] = json.dumps(config).encode()
    files = tuple(replace(file, sha256=None) for file in known.files)
    monkeypatch.setitem(CARDS, "organs", replace(known, files=files))
    with pytest.raises(BadInput, match=r"Millimetres .*compute\(\)"):
        catalog.download("organs")
    fetched = len(host.ranges)
    catalog.download("organs", answers={"spacing": "2 2 2"})
    assert len(host.ranges) == fetched  # the files were here
    assert load_segmenter("organs").spec.spacing == (2.0, 2.0, 2.0)


def test_a_download_that_was_tampered_with(known: Card, host: Host, folder: Path) -> None:
    host.files["/models/model.pt"] = host.files["/models/model.pt"][:-1] + b"x"
    with pytest.raises(ModelError, match="checksum is another"):
        catalog.download("organs")
    assert store.installed() == []
    assert not any("model.pt" in name for name in names(folder))


# ---- import from disk


ANSWERS = {
    "labels": "1=liver, 2=spleen",
    "overlapping": "no",
    "orientation": "RAS",
    "spacing": "scan",
    "intensity": "window -175 250",
    "roi": "64",
    "merging": "merging",
}


def test_import_of_a_checkpoint_and_a_bundle(tmp_path: Path, folder: Path) -> None:
    network = swin()
    torch.save({"state_dict": network.state_dict()}, tmp_path / "My Model (2).pt")
    made = catalog.add(tmp_path / "My Model (2).pt", answers=ANSWERS)
    assert (made.name, made.original) == ("my-model-2", "My Model (2).pt")
    (tmp_path / "My Model (2).pt").unlink()
    segmenter = load_segmenter("my-model-2")
    assert torch.allclose(logits(segmenter.network, scan()), logits(network, scan()), atol=1e-5)
    entry = state_of("my-model-2")
    assert (
        entry.state == "here"
        and entry.card.title == "liver, spleen (imported from My Model (2).pt)"
    )
    source = bundle(tmp_path / "organs", network)
    assert catalog.add(source).name == "organs"
    with pytest.raises(BadInput, match="already"):
        catalog.add(source)
    assert catalog.add(source, overwrite=True).name == "organs"
    assert catalog.add(source, name="mine").name == "mine"
    with pytest.raises(BadInput, match="name of the catalog"):
        catalog.add(source, name="swin-unetr-btcv")
    assert [one.name for one in store.installed()] == ["mine", "my-model-2", "organs"]


def test_what_is_open_is_named_and_nothing_is_added(tmp_path: Path, folder: Path) -> None:
    torch.save(swin().state_dict(), tmp_path / "m.pt")
    with pytest.raises(BadInput, match="does not say safely"):
        catalog.add(tmp_path / "m.pt")
    assert store.installed() == [] and not folder.exists()


def test_a_file_of_our_own_is_copied_as_it_is(tmp_path: Path) -> None:
    spec = SegmenterSpec("necks", {1: "cord", 2: "larynx"}, roi=(64, 64, 64), modality="CT")
    path = write_segmenter(tmp_path / "mine.safetensors", swin(), spec)
    assert load_segmenter(path).spec == spec
    made = catalog.add(path)
    assert made.name == "mine" and made.sha256 == sha256_of(path)
    assert load_segmenter("mine").spec == replace(spec, name="mine")


def test_a_disk_that_fills_loses_nothing(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = SegmenterSpec("necks", {1: "cord", 2: "larynx"}, roi=(64, 64, 64))
    path = write_segmenter(tmp_path / "mine.safetensors", swin(), spec)
    catalog.add(path)

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("shutil.copyfile", full)
        with pytest.raises(BadInput, match="No space left on device"):
            catalog.add(path, overwrite=True)
    real, calls = Path.replace, []

    def second_fails(self: Path, target: Path) -> Path:
        calls.append(self)
        if len(calls) == 2:
            full()
        return real(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", second_fails)
        with pytest.raises(BadInput, match="could not be written"):
            catalog.add(path, overwrite=True)
    assert names(folder) == ["mine/card.json", "mine/model.safetensors"]
    store.verify("mine")


def test_names_cannot_leave_the_folder(tmp_path: Path, folder: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "card.json").write_text("{}")
    for name in ("../outside", "/etc", "..", ".downloads"):
        with pytest.raises(BadInput):
            catalog.remove(name)
        with pytest.raises(BadInput):
            load_segmenter(name)
    assert outside.is_dir()
    assert store.name_of("../Some Model!") == "some-model"
    with pytest.raises(BadInput, match="no name"):
        store.name_of("../..")


def test_a_damaged_card_does_not_hide_the_others(tmp_path: Path, folder: Path) -> None:
    spec = SegmenterSpec("necks", {1: "cord", 2: "larynx"}, roi=(64, 64, 64))
    path = write_segmenter(tmp_path / "good.safetensors", swin(), spec)
    catalog.add(path)
    catalog.add(path, name="bad")
    (folder / "bad" / "card.json").write_text(json.dumps({"name": "bad"}))
    assert [one.name for one in store.installed()] == ["good"]
    with pytest.raises(ModelError, match="card of the model 'bad' is damaged"):
        load_segmenter("bad")
    catalog.remove("bad")
    assert not (folder / "bad").exists()


def test_what_is_not_known_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no model and no file 'liver'"):
        load_segmenter("liver")
    with pytest.raises(BadInput, match="segments what is clicked"):
        load_segmenter("sightline-3d")
    with pytest.raises(BadInput, match="not in the catalog"):
        catalog.download("liver")
    with pytest.raises(BadInput, match="ships with the package"):
        catalog.download("sightline-3d")
    with pytest.raises(BadInput, match="cannot be removed"):
        catalog.remove("sightline-3d")


def test_a_shipped_model_that_is_missing_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalog, "WEIGHTS", tmp_path)
    monkeypatch.setattr(cards, "WEIGHTS", tmp_path)
    assert state_of("swin-unetr-headneck-ct").state == "missing"
    with pytest.raises(ModelError, match="missing"):
        load_segmenter()
    spec = SegmenterSpec("swin-unetr-headneck-ct", {1: "a", 2: "b"}, roi=(64, 64, 64))
    write_segmenter(tmp_path / "swin-unetr-headneck-ct.safetensors", swin(), spec)
    assert load_segmenter().spec == spec
    assert len(catalog.verify("swin-unetr-headneck-ct")) == 64
    assert state_of("swin-unetr-headneck-ct").state == "shipped"

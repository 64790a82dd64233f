"""Cards of known models: what they do, their terms, and where they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from napari_sightline.models.download import RemoteFile
from napari_sightline.models.presets import PRESETS

#: Folder of the weights that ship with the package.
WEIGHTS = Path(__file__).with_name("weights")


@dataclass(frozen=True)
class Card:
    """Facts of a known model.

    Attributes
    ----------
    name, title : str
        What it is called on the command line, and in a menu.
    task : {"automatic", "prompts"}
        Whether it segments by itself or what is pointed at.
    structures : tuple of str
        What it segments; empty where that is up to the prompts.
    modality : str
        Such as ``"CT"``.
    licence : str
        Shown before a download.
    source : str
        Its publisher's page.
    size : int or None
        Bytes to download; None where not published.
    parameters : float or None
        Weights of the network, as published.
    figures : str
        Quality, as published by its authors.
    file : str or None
        Name in `WEIGHTS`, for a model that is shipped.
    files : tuple of RemoteFile
        What to download.
    preset : str or None
        Facts of its kind, for a bare checkpoint.
    answers : mapping
        Facts that its files do not say.
    """

    name: str
    title: str
    task: Literal["automatic", "prompts"]
    structures: tuple[str, ...] = ()
    modality: str = ""
    licence: str = "not known"
    source: str = ""
    size: int | None = None
    parameters: float | None = None
    figures: str = ""
    file: str | None = None
    files: tuple[RemoteFile, ...] = ()
    preset: str | None = None
    answers: Mapping[str, Any] = field(default_factory=dict)

    @property
    def size_in_words(self) -> str:
        """Size of its file or download; a guess from its weights where it is not published."""
        if self.file is not None and (WEIGHTS / self.file).is_file():
            return f"{(WEIGHTS / self.file).stat().st_size / 1e6:.1f} MB"
        if self.size is not None:
            return f"{self.size / 1e6:.1f} MB"
        return f"about {4 * self.parameters / 1e6:.0f} MB" if self.parameters else "not known"


_RELEASE = "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/"
_RESEARCH = "https://github.com/Project-MONAI/research-contributions/tree/main/SwinUNETR/"
_RESEARCH_LICENCE = (
    "not stated for the weights; the code they come with is Apache-2.0, and the terms of the "
    "training data ({data}) may apply"
)
#: All of these were trained before MONAI 1.5.
_OLD = {"merging": "merging_before_1_5"}


def _structures(preset: str) -> tuple[str, ...]:
    return tuple(PRESETS[preset].values["labels"].values())


def _btcv(size: str, features: int, parameters: float, dice: float) -> Card:
    file = f"swin_unetr.{size}_5000ep_f{features}_lr2e-4_pretrained.pt"
    return Card(
        name=f"swin-unetr-btcv-{size}",
        title=f"Swin-UNETR {size}, abdomen, CT: 13 organs",
        task="automatic",
        structures=_structures("btcv"),
        modality="CT",
        licence=_RESEARCH_LICENCE.format(data="BTCV, Synapse syn3193805"),
        source=_RESEARCH + "BTCV",
        parameters=parameters,
        figures=f"mean Dice {dice:.4f} on six scans of BTCV (overlap 0.5), by its authors",
        files=(RemoteFile(file, _RELEASE + file),),
        preset="btcv",
        answers=_OLD,
    )


_ZOO = "MONAI/swin_unetr_btcv_segmentation"

CARDS: dict[str, Card] = {
    card.name: card
    for card in (
        Card(
            name="sightline-3d",
            title="Any structure, from clicks, boxes and scribbles",
            task="prompts",
            modality="CT, MR, PT",
            licence="BSD-3-Clause",
            source="shipped with napari-sightline",
            file="sightline-3d.safetensors",
        ),
        Card(
            name="swin-unetr-headneck-ct",
            title="Swin-UNETR and DynUNet, head and neck, planning CT: seven organs at risk",
            task="automatic",
            structures=_structures("headneck"),
            modality="CT",
            licence="BSD-3-Clause",
            source="shipped with napari-sightline",
            file="swin-unetr-headneck-ct.safetensors",
        ),
        Card(
            name="swin-unetr-btcv",
            title="Swin-UNETR, abdomen, CT: 13 organs (MONAI model zoo)",
            task="automatic",
            structures=_structures("btcv"),
            modality="CT",
            licence="Apache-2.0; the terms of the training data (BTCV, Synapse syn3193805) may "
            "apply",
            source=f"https://huggingface.co/{_ZOO}",
            parameters=62.1e6,
            figures="mean Dice 0.8269 on its authors' own split of BTCV",
            files=(
                RemoteFile("configs/metadata.json", "configs/metadata.json", _ZOO),
                RemoteFile("configs/inference.json", "configs/inference.json", _ZOO),
                RemoteFile("models/model.pt", "models/model.pt", _ZOO),
            ),
            preset="btcv",
            answers={**_OLD, "labels": PRESETS["btcv"].values["labels"]},
        ),
        _btcv("base", 48, 62.1e6, 0.8186),
        _btcv("small", 24, 15.7e6, 0.7934),
        _btcv("tiny", 12, 4.0e6, 0.7035),
        Card(
            name="swin-unetr-brats21",
            title="Swin-UNETR, brain tumours, MR: three regions from FLAIR, T1c, T1, T2",
            task="automatic",
            structures=_structures("brats"),
            modality="MR",
            licence=_RESEARCH_LICENCE.format(data="BraTS 2021, Synapse syn27046444"),
            source=_RESEARCH + "BRATS21",
            parameters=62.1e6,
            figures="mean Dice 0.9059 on fold 1 of BraTS 2021, by its authors",
            files=(
                RemoteFile(
                    "fold1_f48_ep300_4gpu_dice0_9059.zip",
                    _RELEASE + "fold1_f48_ep300_4gpu_dice0_9059.zip",
                ),
            ),
            preset="brats",
            answers=_OLD,
        ),
    )
}

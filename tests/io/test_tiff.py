"""TIFF as ImageJ and OME programs write and read it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile

from napari_sightline.errors import BadInput
from napari_sightline.io import load, load_labels, save, save_image
from napari_sightline.volume import Volume

STACK = np.random.default_rng(0).integers(0, 4000, (4, 5, 6)).astype("u2")


def test_imagej(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    meta = {"axes": "ZYX", "spacing": 3.0, "unit": "mm"}
    tifffile.imwrite(path, STACK, imagej=True, resolution=(2, 4), metadata=meta)
    volume = load(path)
    assert np.array_equal(volume.data, STACK)
    assert volume.spacing == pytest.approx((3, 0.25, 0.5))
    assert any("how the patient lay" in note for note in volume.notes)
    meta["unit"] = "um"
    tifffile.imwrite(path, STACK, imagej=True, resolution=(2, 4), metadata=meta)
    assert load(path).spacing == pytest.approx((3e-3, 0.25e-3, 0.5e-3))


def test_imagej_hyperstack(tmp_path: Path) -> None:
    both = np.stack([STACK, STACK + 1], axis=1)
    meta = {"axes": "ZCYX", "spacing": 3.0, "unit": "mm"}
    tifffile.imwrite(tmp_path / "a.tif", both, imagej=True, metadata=meta)
    volume = load(tmp_path / "a.tif", channel=1)
    assert np.array_equal(volume.data, STACK + 1)
    assert "Channel 1 of 2 used." in volume.notes
    with pytest.raises(BadInput, match="no channel 2"):
        load(tmp_path / "a.tif", channel=2)


@pytest.mark.parametrize("unit", ["mm", "µm"])
def test_ome(tmp_path: Path, unit: str) -> None:
    meta = {"axes": "ZYX"}
    for axis, size in zip("XYZ", (0.5, 0.25, 3), strict=True):
        meta[f"PhysicalSize{axis}"], meta[f"PhysicalSize{axis}Unit"] = size, unit
    tifffile.imwrite(tmp_path / "a.ome.tif", STACK.astype("i2"), ome=True, metadata=meta)
    volume = load(tmp_path / "a.ome.tif")
    scale = 1 if unit == "mm" else 1e-3
    assert volume.spacing == pytest.approx((3 * scale, 0.25 * scale, 0.5 * scale))
    assert np.array_equal(volume.data, STACK)
    assert (volume.data.dtype, volume.name) == (np.int16, "a")


def test_plain_pages_and_colour(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", STACK, photometric="minisblack")
    volume = load(tmp_path / "a.tif")
    assert np.array_equal(volume.data, STACK)
    assert any("no spacing" in note for note in volume.notes)
    colour = (STACK[..., None] % 255).astype("u1").repeat(3, axis=-1)
    tifffile.imwrite(tmp_path / "c.tif", colour, photometric="rgb")
    volume = load(tmp_path / "c.tif")
    assert np.array_equal(volume.data, colour[..., 0])
    assert "Colour shown as luminance." in volume.notes
    tifffile.imwrite(tmp_path / "one.tif", STACK[0])
    assert load(tmp_path / "one.tif").shape == (1, 5, 6)


def test_what_is_written_others_read(tmp_path: Path) -> None:
    affine = np.array([[-0.5, 0, 0, 5], [0, -0.25, 0, 6], [0, 0, 3, 7], [0, 0, 0, 1]])
    volume = Volume.from_array(STACK.T, affine)
    with tifffile.TiffFile(save_image(tmp_path / "a.tif", volume)) as tiff:
        assert tiff.is_imagej
        assert tiff.imagej_metadata["spacing"] == 3
        assert tiff.imagej_metadata["unit"] == "mm"
        assert tiff.series[0].axes == "ZYX"
        assert np.array_equal(tiff.asarray(), STACK)
    with tifffile.TiffFile(save_image(tmp_path / "a.ome.tif", volume)) as tiff:
        assert tiff.is_ome
        assert 'PhysicalSizeX="0.5"' in tiff.ome_metadata
        assert np.array_equal(tiff.asarray(), STACK)
    labels = (volume.data > 2000).astype("u1")
    again, names = load_labels(save(tmp_path / "l.tif", labels, volume, {1: "Knöchel"}))
    assert names == {1: "Knöchel"}
    assert np.array_equal(again.data, labels)
    assert again.notes == ()


def test_big_tiff_and_several_pages(tmp_path: Path) -> None:
    meta: dict[str, object] = {"axes": "ZYX"}
    for axis, size in zip("XYZ", (500, 250, 3000), strict=True):
        meta[f"PhysicalSize{axis}"], meta[f"PhysicalSize{axis}Unit"] = size, "µm"
    tifffile.imwrite(tmp_path / "a.ome.tif", STACK, ome=True, bigtiff=True, metadata=meta)
    volume = load(tmp_path / "a.ome.tif")
    assert np.array_equal(volume.data, STACK)
    assert volume.spacing == pytest.approx((3, 0.25, 0.5))
    with tifffile.TiffWriter(tmp_path / "b.tif", bigtiff=True, byteorder=">") as tiff:
        for page in STACK:
            tiff.write(page, contiguous=False, photometric="minisblack")
    assert np.array_equal(load(tmp_path / "b.tif").data, STACK)
    with tifffile.TiffWriter(tmp_path / "c.tif") as tiff:
        tiff.write(STACK, photometric="minisblack")
        tiff.write(STACK[0, :2], photometric="minisblack")
    volume = load(tmp_path / "c.tif")
    assert np.array_equal(volume.data, STACK)
    assert "Image 1 of 2 in the file used." in volume.notes

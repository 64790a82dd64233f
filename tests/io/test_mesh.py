"""Surfaces: closed, as large as the organ, where the organ is."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from test_formats import PLACES, somewhere

from napari_sightline.errors import BadInput
from napari_sightline.io import save
from napari_sightline.io.mesh import Mesh, surface
from napari_sightline.volume import Volume


def ball(affine: np.ndarray, radius: float = 9) -> tuple[Volume, np.ndarray]:
    volume = Volume.from_array(np.zeros((24, 25, 26), "u1"), affine)
    middle = (np.array(volume.shape) - 1) / 2
    away = np.indices(volume.shape).reshape(3, -1).T - middle
    return volume, (np.linalg.norm(away, axis=1) < radius).reshape(volume.shape)


def enclosed(vertices: np.ndarray, faces: np.ndarray) -> float:
    a, b, c = (vertices[faces[:, i]].astype(float) for i in range(3))
    return float(np.einsum("ij,ij->", a, np.cross(b, c)) / 6)


@given(**PLACES)
@settings(max_examples=8, suppress_health_check=[HealthCheck.too_slow])
def test_place_size_and_sense(**place: object) -> None:
    affine = somewhere(**place)
    volume, mask = ball(affine)
    mesh = surface(mask, volume)
    size = mask.sum() * abs(np.linalg.det(affine[:3, :3]))
    centre = mesh.vertices.mean(axis=0)
    assert enclosed(mesh.vertices - centre, mesh.faces) == pytest.approx(size, rel=0.05)
    expected = volume.voxel_to_mm((np.array(volume.shape) - 1) / 2)
    assert np.allclose(centre, expected, atol=0.2 * max(place["sizes"]))
    edges = np.sort(mesh.faces[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), axis=1)
    _, counts = np.unique(edges, axis=0, return_counts=True)
    assert np.all(counts == 2), "closed"


def closed(mesh: Mesh) -> bool:
    """Whether every edge belongs to two triangles, once in each direction."""
    edges = mesh.faces[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2)
    there = {tuple(edge) for edge in edges.tolist()}
    return len(there) == len(edges) and there == {(b, a) for a, b in there}


@pytest.mark.parametrize("handed", [1, -1])
def test_closed_and_outward_at_the_border_of_the_scan(handed: int) -> None:
    affine = np.diag([-0.7, -0.9, 2.5 * handed, 1])
    affine[:3, 3] = 40, -60, 11
    volume = Volume.from_array(np.zeros((20, 21, 22), "u1"), affine)
    whole = np.ones(volume.shape, bool)
    corner = np.zeros(volume.shape, bool)
    corner[:12, :12, 10:] = True
    for mask in (whole, corner):
        for smooth in (True, False):
            mesh = surface(mask, volume, smooth)
            assert closed(mesh)
            size = mask.sum() * 0.7 * 0.9 * 2.5
            # Positive: the triangles face outwards. Corners are rounded, edges lie on voxel sides.
            assert enclosed(mesh.vertices, mesh.faces) == pytest.approx(size, rel=0.05)


def test_thin_masks() -> None:
    volume = Volume.from_array(np.zeros((5, 6, 7), "u1"), np.eye(4))
    for mask in (np.indices(volume.shape)[0] == 2, np.indices(volume.shape).sum(0) == 9):
        mesh = surface(mask, volume)
        assert enclosed(mesh.vertices, mesh.faces) > 0
    with pytest.raises(BadInput, match="empty"):
        surface(np.zeros(volume.shape), volume)


def test_files(tmp_path: Path) -> None:
    volume, mask = ball(np.diag([-1.0, -2, 3, 1]))
    labels = mask.astype("u1")
    labels[:3, :3, :3] = 4
    names = {1: "liver", 4: "left kidney"}
    stl = save(tmp_path / "a.stl", labels, volume, names).read_bytes()
    count = struct.unpack("<I", stl[80:84])[0]
    assert len(stl) == 84 + 50 * count
    assert b"SPACE=RAS" in stl[:80]
    obj = save(tmp_path / "a.obj", labels, volume, names).read_text().splitlines()
    assert [line for line in obj if line[0] == "o"] == ["o liver", "o left_kidney"]
    points = np.array([line.split()[1:] for line in obj if line[0] == "v"], float)
    faces = np.array([line.split()[1:] for line in obj if line[0] == "f"], int)
    assert faces.min() == 1
    assert faces.max() == len(points)
    assert len(faces) == count
    ply = save(tmp_path / "a.ply", labels, volume, names).read_bytes()
    head, body = ply.split(b"end_header\n", 1)
    assert f"element vertex {len(points)}".encode() in head
    assert len(body) == 15 * len(points) + 13 * count
    corner = volume.voxel_to_mm((1.0, 1.0, 1.0))
    assert np.linalg.norm(points - corner, axis=1).min() < 6

"""Surfaces of labels as STL, OBJ or PLY, in the scanner's millimetres (RAS)."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from napari_sightline.anatomy import Colour
from napari_sightline.errors import BadInput
from napari_sightline.io.atomic import replacing
from napari_sightline.io.legend import as_labels, named_labels
from napari_sightline.orientation import Array
from napari_sightline.volume import Volume

__all__ = ["Mesh", "file_name", "surface", "write_mesh"]

_SOFT = 0.7  # voxels: rounds the steps between voxels, keeps the size


@dataclass(frozen=True)
class Mesh:
    """A closed surface.

    Attributes
    ----------
    vertices : ndarray, shape (N, 3), float32
        Scanner RAS millimetres.
    faces : ndarray, shape (M, 3), int32
        Vertices of each triangle, counterclockwise seen from outside.
    """

    vertices: npt.NDArray[np.float32]
    faces: npt.NDArray[np.int32]


def surface(mask: npt.ArrayLike, volume: Volume, smooth: bool = True) -> Mesh:
    """Draw a surface round a mask (marching cubes).

    Parameters
    ----------
    mask : array_like of bool, shape of `volume`
        Canonical order, at least one voxel.
    volume : Volume
        Gives the place.
    smooth : bool
        Whether the steps between voxels are rounded; the mask's edge stays within a voxel.

    Returns
    -------
    Mesh

    Raises
    ------
    BadInput
        If the mask is empty or lies on another grid.
    """
    from skimage.measure import marching_cubes

    whole = np.asarray(mask) > 0
    if whole.shape != volume.shape:
        raise BadInput(
            f"The mask has shape {whole.shape} but the scan has {volume.shape}; "
            "give a mask made on this scan."
        )
    hit = [
        np.nonzero(whole.any(axis=tuple(a for a in range(3) if a != axis)))[0] for axis in range(3)
    ]
    if not hit[0].size:
        raise BadInput("The mask is empty, so that it has no surface; label something first.")
    pad = 3  # room for a closed surface at the border of the scan, too
    lows = np.array([h[0] for h in hit])
    box = whole[tuple(slice(h[0], h[-1] + 1) for h in hit)]
    field = np.pad(box, pad).astype(np.float32)
    if smooth:
        from scipy import ndimage

        soft = ndimage.gaussian_filter(field, _SOFT)
        if soft.max() > 0.5:  # else it is thinner than the filter: leave it as it is
            field = soft
    points, faces, _, _ = marching_cubes(field, 0.5, allow_degenerate=False)
    vertices = volume.voxel_to_mm(points + lows - pad).astype(np.float32)
    faces = faces.astype(np.int32)
    # marching_cubes turns its triangles for a right-handed grid.
    if _signed_volume(vertices, faces) < 0:
        faces = faces[:, ::-1]
    return Mesh(vertices, np.ascontiguousarray(faces))


def write_mesh(
    path: str | os.PathLike[str],
    labels: npt.ArrayLike,
    volume: Volume,
    names: Mapping[int, str] | None = None,
    overwrite: bool = True,
) -> Path:
    """Write the surface of every label that occurs.

    Parameters
    ----------
    path : path
        Ends in ``.stl``, ``.obj`` or ``.ply``. OBJ holds one object a label; STL and PLY hold
        one surface of all labels together, PLY with a colour for each. For one file an organ
        use `napari_sightline.io.save_each`.
    labels : array_like of bool or int, shape of `volume`
        Canonical order.
    volume : Volume
        Gives the place.
    names : dict of int to str, optional
        Names and colours.
    overwrite : bool
        Whether a file at `path` may be replaced.

    Returns
    -------
    Path
        The file written.

    Raises
    ------
    BadInput
        If nothing is labelled, or the file cannot be written.
    """
    path = Path(path)
    array = as_labels(labels, volume)
    legend = named_labels(array, names)
    with replacing(path, overwrite, tuple(_WRITERS), "surface") as temporary:
        parts = [
            (surface(array == value, volume), name, legend.colour(value))
            for value, name in legend.items()
            if np.any(array == value)
        ]
        if not parts:
            raise BadInput(f"{path.name} would be empty; label something first.")
        temporary.write_bytes(_WRITERS[path.suffix.lower()](parts))
    return path


def file_name(name: str) -> str:
    """Turn a structure's name into part of a file name."""
    return re.sub(r"[^\w-]+", "_", name).strip("_") or "label"


_Parts = list[tuple[Mesh, str, Colour]]


def _joined(parts: _Parts) -> tuple[Array, Array]:
    counts = np.cumsum([0, *(len(mesh.vertices) for mesh, _, _ in parts)])
    vertices = np.concatenate([mesh.vertices for mesh, _, _ in parts])
    faces = [mesh.faces + start for (mesh, _, _), start in zip(parts, counts, strict=False)]
    return vertices, np.concatenate(faces).astype(np.int32)


def _stl(parts: _Parts) -> bytes:
    vertices, faces = _joined(parts)
    corners = vertices[faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
    record = np.zeros(len(faces), [("n", "<f4", 3), ("c", "<f4", (3, 3)), ("a", "<u2")])
    record["n"], record["c"] = normals, corners
    # 3D Slicer reads the space out of the header.
    head = b"napari-sightline, scanner millimetres. SPACE=RAS".ljust(80, b"\0")
    return head + np.uint32(len(faces)).astype("<u4").tobytes() + record.tobytes()


def _obj(parts: _Parts) -> bytes:
    lines = ["# napari-sightline, scanner millimetres", "# SPACE=RAS"]
    start = 1
    for mesh, name, _ in parts:
        lines.append(f"o {file_name(name)}")
        lines += [f"v {x:.5f} {y:.5f} {z:.5f}" for x, y, z in mesh.vertices.tolist()]
        lines += [f"f {a} {b} {c}" for a, b, c in (mesh.faces + start).tolist()]
        start += len(mesh.vertices)
    return ("\n".join(lines) + "\n").encode()


def _ply(parts: _Parts) -> bytes:
    vertices, faces = _joined(parts)
    points = np.zeros(len(vertices), [("p", "<f4", 3), ("c", "u1", 3)])
    points["p"] = vertices
    points["c"] = np.concatenate([np.tile(c, (len(m.vertices), 1)) for m, _, c in parts])
    triangles = np.zeros(len(faces), [("n", "u1"), ("f", "<i4", 3)])
    triangles["n"], triangles["f"] = 3, faces
    head = (
        "ply\nformat binary_little_endian 1.0\n"
        "comment napari-sightline, scanner millimetres\ncomment SPACE=RAS\n"
        f"element vertex {len(vertices)}\n"
        "property float x\nproperty float y\nproperty float z\n"
        "property uchar red\nproperty uchar green\nproperty uchar blue\n"
        f"element face {len(faces)}\nproperty list uchar int vertex_indices\nend_header\n"
    )
    return head.encode() + points.tobytes() + triangles.tobytes()


_WRITERS = {".stl": _stl, ".obj": _obj, ".ply": _ply}


def _signed_volume(vertices: Array, faces: Array) -> float:
    """Volume enclosed by the triangles, negative where they face inwards."""
    a, b, c = (vertices[faces[:, i]].astype(np.float64) for i in range(3))
    return float(np.einsum("ij,ij->", a - vertices.mean(0), np.cross(b - a, c - a)) / 6)

"""What a NIfTI file says of itself, believed only after it was checked.

Headers come from strangers: sizes are checked against the file before anything is allocated,
and every fault becomes one `BadInput` sentence. nibabel knows the fields; it is imported only
when a file is opened.
"""

from __future__ import annotations

import gzip
import math
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np

from napari_sightline.errors import BadInput
from napari_sightline.orientation import Affine, Shape

__all__ = [
    "MAX_OFFSET",
    "SIZES",
    "NiftiFile",
    "blank_text",
    "file_affine",
    "header_and_data",
    "is_gzip",
    "open_stream",
    "parse_header",
    "reading",
    "voxel_offset",
]

#: Length of the header in bytes, and the version it belongs to.
SIZES = {348: 1, 540: 2}
_MAGICS = {b"n+1\0": True, b"ni1\0": False, b"n+2\0\r\n\x1a\n": True, b"ni2\0\r\n\x1a\n": False}
_MAX_VOXELS = 10**11
#: Bytes of extensions before the voxels, at most.
MAX_OFFSET = 2**26
_GZIP_LIMIT = 1100  # deflate cannot shrink more than about 1032 times
_MILLIMETRES = {1: 1000.0, 3: 0.001}  # metres, microns; anything else is read as mm, as ITK does


@dataclass(frozen=True)
class NiftiFile:
    """A checked header and where its voxels are.

    Attributes
    ----------
    header : nibabel header
        Fields as stored, without extensions.
    shape : tuple of 3 int
        The file's grid; missing axes are 1 voxel long.
    channels : int
        Length of the fourth axis, 1 without one.
    axes : int
        Number of axes the file names, without trailing ones of length 1.
    dtype : numpy.dtype
        Of one voxel on disk, byte order included.
    slope, inter : float
        Value = slope * stored + inter.
    affine : ndarray, shape (4, 4), float64
        File voxel to RAS millimetres.
    data_path : Path
        File that holds the voxels.
    offset : int
        Bytes before the first voxel.
    compressed : bool
        Whether `data_path` is gzip.
    notes : tuple of str
        What had to be assumed.
    """

    header: Any
    shape: Shape
    channels: int
    axes: int
    dtype: np.dtype[Any]
    slope: float
    inter: float
    affine: Affine
    data_path: Path
    offset: int
    compressed: bool
    notes: tuple[str, ...]

    @property
    def name(self) -> str:
        """Name of the data file, for messages."""
        return self.data_path.name

    @property
    def channel_bytes(self) -> int:
        """Bytes of one channel on disk."""
        return math.prod(self.shape) * self.dtype.itemsize

    @classmethod
    def open(cls, path: Path) -> NiftiFile:
        """Read and check a header; no voxel is read.

        Parameters
        ----------
        path : Path
            ``.nii``, ``.nii.gz``, or either file of a ``.hdr``/``.img`` pair. The content
            decides, not the name.

        Returns
        -------
        NiftiFile

        Raises
        ------
        BadInput
            If the file is missing, is no NIfTI, is damaged, or claims more than it can hold.
        """
        if "\0" in str(path):
            raise BadInput(f"{str(path)!r} is no file name; name a .nii or .nii.gz file.")
        header_path, pair_path = header_and_data(path)
        with reading(header_path):
            if header_path.is_dir():
                raise BadInput(f"{path} is a folder; name a .nii or .nii.gz file.")
            compressed = is_gzip(header_path)
            with open_stream(header_path, compressed) as stream:
                start = stream.read(max(SIZES))
        header, single = parse_header(start, header_path.name)
        blank_text(header)
        data_path = header_path if single else pair_path
        if data_path is None:
            raise BadInput(
                f"{path.name} is one half of a .hdr/.img pair; name the pair's .hdr file, "
                "with the .img beside it."
            )
        with reading(data_path):
            compressed = is_gzip(data_path)
            size = data_path.stat().st_size
        name = data_path.name
        shape, channels, axes = _shape(header, name)
        dtype = _dtype(header, name)
        slope, inter = _scaling(header, dtype, name)
        offset = voxel_offset(header, single, name)
        claimed = offset + math.prod(shape) * channels * dtype.itemsize
        if claimed > (size * _GZIP_LIMIT if compressed else size):
            raise BadInput(
                f"{name} claims {claimed} bytes of voxels but is only {size} bytes long; "
                "it is cut off or its header is damaged: copy or export it again."
            )
        affine, notes = file_affine(header, shape, name)
        return cls(
            header,
            shape,
            channels,
            axes,
            dtype,
            slope,
            inter,
            affine,
            data_path,
            offset,
            compressed,
            notes,
        )


def blank_text(header: Any) -> None:
    """Empty a header's fields of free text: they may name a patient."""
    for field in ("descrip", "aux_file", "intent_name", "data_type", "db_name"):
        if field in header.keys():  # noqa: SIM118 - a header is not a dict
            header[field] = b""


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn what can go wrong while a file is read into one sentence."""
    try:
        yield
    except FileNotFoundError as error:
        raise BadInput(f"{path.name} does not exist; check its name and folder.") from error
    except PermissionError as error:
        raise BadInput(f"{path.name} may not be read; change its permissions.") from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise BadInput(
            f"{path.name} is damaged (its compressed data cannot be unpacked); "
            "copy or export it again."
        ) from error
    except OSError as error:
        why = error.strerror or type(error).__name__
        raise BadInput(
            f"{path.name} could not be read ({why}); check the disk or copy it again."
        ) from error
    except MemoryError as error:
        raise BadInput(
            f"{path.name} does not fit into memory; close other programs or crop the file."
        ) from error


def open_stream(path: Path, compressed: bool) -> BinaryIO:
    """Open a file for reading bytes, unpacked if it is gzip."""
    return cast(BinaryIO, gzip.open(path, "rb")) if compressed else path.open("rb")


def file_affine(header: Any, shape: Shape, name: str) -> tuple[Affine, tuple[str, ...]]:
    """Choose a header's affine: sform, else qform, else the voxel sizes.

    Parameters
    ----------
    header : nibabel NIfTI header
    shape : tuple of 3 int
        The file's grid.
    name : str
        Of the file, for messages.

    Returns
    -------
    affine : ndarray, shape (4, 4), float64
        File voxel to RAS millimetres, whatever unit the header uses.
    notes : tuple of str

    Raises
    ------
    BadInput
        If the qform's numbers are no rotation.
    """
    zooms = np.asarray(header["pixdim"][1:4], dtype=np.float64)
    notes: tuple[str, ...] = ()
    if header["sform_code"] > 0:
        affine = np.asarray(header.get_sform(), dtype=np.float64)
    else:
        header = header.copy()
        # A single slice often comes without a thickness.
        header["pixdim"][1:4] = np.where((zooms == 0) & (np.asarray(shape) == 1), 1, zooms)
        if header["qform_code"] > 0:
            try:
                with np.errstate(all="ignore"):
                    affine = np.asarray(header.get_qform(), dtype=np.float64)
            except Exception as error:  # nibabel's error is no ValueError, its maths' is
                raise BadInput(
                    f"{name} has a qform that is no rotation; correct it or export the file again."
                ) from error
        else:
            header["pixdim"][1:4] = np.abs(header["pixdim"][1:4])
            header["dim"][:4] = (3, *shape)
            affine = np.asarray(header.get_base_affine(), dtype=np.float64)
            notes = ("The file gives no orientation; left and right may be swapped.",)
    with np.errstate(over="ignore"):
        affine[:3] *= _MILLIMETRES.get(int(header["xyzt_units"]) & 7, 1.0)
    return affine, notes


def header_and_data(path: Path) -> tuple[Path, Path | None]:
    """Return the file that holds the header and, for a pair, the one that holds voxels."""
    for ending in (".hdr.gz", ".img.gz", ".hdr", ".img"):
        if path.name.lower().endswith(ending):
            stem = path.name[: -len(ending)]
            rest = ending[4:]
            return path.with_name(f"{stem}.hdr{rest}"), path.with_name(f"{stem}.img{rest}")
    return path, None


def is_gzip(path: Path) -> bool:
    """Whether a file begins as gzip does."""
    with path.open("rb") as stream:
        return stream.read(2) == b"\x1f\x8b"


def parse_header(start: bytes, name: str) -> tuple[Any, bool]:
    """Make a nibabel header of a file's first bytes; and whether voxels follow in the file."""
    from nibabel.nifti1 import Nifti1Header
    from nibabel.nifti2 import Nifti2Header

    order = "<" if start[:4] in (b"\x5c\1\0\0", b"\x1c\2\0\0") else ">"
    length = int.from_bytes(start[:4], "little" if order == "<" else "big")
    version = SIZES.get(length)
    magic = start[4:12] if version == 2 else start[344:348]
    if version is None or magic not in _MAGICS or len(start) < length:
        if not start:
            fault = "is empty"
        elif start[128:132] == b"DICM":
            fault = "is a DICOM file"
        elif version is not None or start[344:348] in _MAGICS or start[4:12] in _MAGICS:
            fault = "has a damaged or cut off NIfTI header"
        else:
            fault = "is not a NIfTI file"
        raise BadInput(f"{name} {fault}; give a .nii or .nii.gz file.")
    kind = Nifti1Header if version == 1 else Nifti2Header
    # check=False: nibabel's own check writes to the log and mends in silence.
    return kind(start[:length], endianness=order, check=False), _MAGICS[magic]


def _shape(header: Any, name: str) -> tuple[Shape, int, int]:
    """Return the grid, the number of channels, and the number of axes that matter."""
    count = int(header["dim"][0])
    if not 1 <= count <= 7:
        raise BadInput(f"{name} claims {count} axes; its header is damaged: export it again.")
    dims = [int(n) for n in header["dim"][1 : count + 1]]
    if min(dims) < 1:
        raise BadInput(f"{name} claims the shape {dims}; its header is damaged: export it again.")
    voxels = math.prod(dims)
    if voxels > _MAX_VOXELS:
        raise BadInput(
            f"{name} claims {voxels:.1e} voxels {dims}; its header is damaged: export it again."
        )
    while len(dims) > 2 and dims[-1] == 1:
        dims.pop()
    if len(dims) > 4 and set(dims[3:-1]) == {1}:  # vectors: x, y, z, 1, channel
        dims = [*dims[:3], dims[-1]]
    if not 2 <= len(dims) <= 4:
        raise BadInput(f"{name} has {len(dims)} axes {dims}; give a file with two to four.")
    n0, n1, n2, channels = [*dims, 1, 1][:4]
    return (n0, n1, n2), channels, len(dims)


def _dtype(header: Any, name: str) -> np.dtype[Any]:
    """Return the stored type of a voxel; `BadInput` where it is no number or colour."""
    code = int(header["datatype"])
    try:
        dtype = np.dtype(header.get_data_dtype())
    except Exception:  # nibabel raises its own for an unknown code
        dtype = np.dtype(np.void)
    if dtype.itemsize == 0:
        raise BadInput(
            f"{name} has the unknown data type {code}; its header is damaged: export it again."
        )
    if dtype.names is None and (dtype.kind not in "iuf" or dtype.itemsize > 8):
        raise BadInput(
            f"{name} holds {dtype} voxels, which are not plain real numbers; "
            "convert it to integers or float32."
        )
    return dtype


def _scaling(header: Any, dtype: np.dtype[Any], name: str) -> tuple[float, float]:
    slope, inter = float(header["scl_slope"]), float(header["scl_inter"])
    if dtype.names is not None or slope == 0 or not math.isfinite(slope):
        return 1.0, 0.0  # as the standard says: not scaled
    if not math.isfinite(inter):
        raise BadInput(f"{name} is scaled by an offset of {inter}; correct its scl_inter.")
    return slope, inter


def voxel_offset(header: Any, single: bool, name: str) -> int:
    """Byte at which voxels begin; `BadInput` where that cannot be."""
    offset = float(header["vox_offset"])
    low = int(header["sizeof_hdr"]) + 4 if single else 0
    if single and offset == 0:
        return low
    if not low <= offset <= MAX_OFFSET:
        raise BadInput(
            f"{name} claims its voxels begin at byte {offset:g}; "
            "its header is damaged: export it again."
        )
    return int(offset)

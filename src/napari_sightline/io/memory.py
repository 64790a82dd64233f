"""Whether something fits into this machine's memory, asked before it is allocated."""

from __future__ import annotations

from napari_sightline.errors import BadInput

__all__ = ["check_memory"]


def check_memory(needed: int, name: str) -> None:
    """Refuse what would not fit, where the free memory is known."""
    try:
        import psutil  # type: ignore[import-untyped]
    except ImportError:
        return
    free = int(psutil.virtual_memory().available)
    if needed > free:
        raise BadInput(
            f"{name} needs {needed / 2**30:.1f} GB of memory but {free / 2**30:.1f} GB are free; "
            "close other programs, or unpack or crop the file."
        )

"""What torch reads from the environment when it is first loaded or used."""

from __future__ import annotations

import os


def prepare_torch(share_cores: bool = True) -> None:
    """Set what suits a program beside others, unless the user has set it.

    Parameters
    ----------
    share_cores : bool
        Let threads sleep while they wait: those that spin take the cores from the window and from
        each other; on a busy machine a click took many times as long.
    """
    if share_cores:
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # Large tensors on Linux in pages of 2 MB: a network's activations come and go, and a third of
    # its time on a CPU went into pages of 4 kB. A no-op elsewhere.
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")

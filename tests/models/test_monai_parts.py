"""MONAI is imported whole, whichever part is asked for first."""

from __future__ import annotations

import subprocess
import sys

import pytest

# One thread is held in the middle of MONAI until the other waits for a module, or is done.
CODE = """
import sys, threading, time
from importlib.machinery import PathFinder
from napari_sightline.models.swin_unetr import SwinUnetrSizes
from napari_sightline.models.unetr import UnetrSizes

held, faults = threading.Event(), []

class Holding:
    def find_spec(self, name, path=None, target=None):
        if name != "monai.networks.layers":
            return None
        sys.meta_path.remove(self)
        spec = PathFinder.find_spec(name, path)
        run = spec.loader.exec_module
        def hold(module):
            held.set()
            while not second.ident or (second.is_alive() and not waits(second)):
                time.sleep(0.01)
            run(module)
        spec.loader.exec_module = hold
        return spec

def waits(thread):
    frame = sys._current_frames().get(thread.ident)
    return frame and "importlib" in frame.f_code.co_filename and frame.f_code.co_name == "acquire"

def build(sizes):
    try:
        sizes.build()
    except Exception as error:
        faults.append(f"{type(sizes).__name__}: {error!r}")

swin = SwinUnetrSizes(1, 2, feature_size=12)
unetr = UnetrSizes(1, 2, image=(32, 32, 32), feature_size=4, hidden_size=16, mlp_dim=16, heads=2)
first, second = (threading.Thread(target=build, args=[one]) for one in (swin, unetr))
sys.meta_path.insert(0, Holding())
first.start()
held.wait()
second.start()
first.join(), second.join()
assert not faults, faults
"""


@pytest.mark.timeout(600)  # a program of its own imports torch
def test_two_threads_may_build_two_families_at_once() -> None:
    done = subprocess.run(
        [sys.executable, "-c", CODE], capture_output=True, text=True, check=False, timeout=570
    )
    assert done.returncode == 0, done.stderr

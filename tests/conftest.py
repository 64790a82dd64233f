"""What all tests share: threads, the display, the place of the shared data."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# Before numpy and torch start their pools: figures must not depend on the machine's size, and
# processes that share the tests share the cores.
threads = "1" if "PYTEST_XDIST_WORKER" in os.environ else "2"
for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(variable, threads)
# On busy cores, threads that spin while they wait cost more than they gain.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# pytest-qt and qtpy prefer different bindings; where two are installed they must agree.
for api, package in (("pyqt6", "PyQt6"), ("pyside6", "PySide6")):
    if find_spec(package):
        os.environ.setdefault("PYTEST_QT_API", api)
        break
os.environ.setdefault("QT_API", os.environ.get("PYTEST_QT_API", "pyqt6"))

# napari draws with OpenGL, which Qt's "offscreen" does not have; pytest-xvfb brings a display.
if os.environ.get("QT_QPA_PLATFORM") == "offscreen":
    del os.environ["QT_QPA_PLATFORM"]

settings.register_profile(
    "sightline",
    deadline=None,  # the first example pays for imports
    max_examples=30,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize=bool(os.environ.get("CI")),
)
settings.load_profile("sightline")

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def repository() -> Path:
    """Top folder of the repository."""
    return ROOT


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of the real volumes; tests that need it skip where it is missing."""
    named = os.environ.get("SIGHTLINE_DATA")
    folder = Path(named) if named else ROOT.parent / "shared" / "data"
    if not (folder / "index.json").is_file():
        pytest.skip(f"no shared data at {folder}: set SIGHTLINE_DATA to the folder that holds it")
    return folder

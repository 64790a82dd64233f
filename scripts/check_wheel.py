"""Check an installed wheel from outside the repository: run it with the environment's Python.

Usage: python check_wheel.py PATH_OF_NAPARI_YAML
"""

from __future__ import annotations

import subprocess
import sys
from importlib.resources import files
from pathlib import Path

from npe2 import PluginManager

import napari_sightline


def main() -> None:
    package = Path(str(files("napari_sightline")))
    if "site-packages" not in package.parts:
        sys.exit(f"{package} is not an installed package: run this outside the repository")

    manager = PluginManager()
    manager.discover()
    manifest = manager.get_manifest("napari-sightline")
    if (package / "napari.yaml").read_bytes() != Path(sys.argv[1]).read_bytes():
        sys.exit("the installed napari.yaml is not the repository's")
    print(f"manifest: {manifest.display_name} {manifest.package_version}")

    weights = package / "models" / "weights"
    held = sorted(path.name for path in weights.glob("sightline-3d*"))
    if "sightline-3d.safetensors" not in held or len(held) < 2:
        sys.exit(f"weights or model card of sightline-3d missing in the wheel, found {held}")
    print("weights:", *held)

    command = Path(sys.executable).with_name("sightline")
    shown = subprocess.run([command, "--help"], capture_output=True, text=True, check=True)
    if "segment" not in shown.stdout:
        sys.exit(f"sightline --help does not name its commands:\n{shown.stdout}")
    print("sightline --help works, version", napari_sightline.__version__)

    if any(name in sys.modules for name in ("torch", "qtpy")):
        sys.exit("finding the plugin imported torch or Qt")


if __name__ == "__main__":
    main()

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

    here = Path(sys.argv[1]).parent / "src" / "napari_sightline" / "models" / "weights"
    wanted = {path.name: path.read_bytes() for path in here.iterdir() if path.is_file()}
    models = {Path(name).stem for name in wanted}
    if not {f"{name}.{kind}" for name in models for kind in ("safetensors", "md")} <= set(wanted):
        sys.exit(f"weights or model card of a shipped model missing in {here}: {sorted(wanted)}")
    for name, content in sorted(wanted.items()):
        held = package / "models" / "weights" / name
        if not held.is_file() or held.read_bytes() != content:
            sys.exit(f"{name} is missing in the wheel, or not the repository's")
    print("weights:", *sorted(wanted))

    command = Path(sys.executable).with_name("sightline")
    shown = subprocess.run([command, "--help"], capture_output=True, text=True, check=True)
    if "segment" not in shown.stdout:
        sys.exit(f"sightline --help does not name its commands:\n{shown.stdout}")
    print("sightline --help works, version", napari_sightline.__version__)

    if any(name in sys.modules for name in ("torch", "qtpy")):
        sys.exit("finding the plugin imported torch or Qt")


if __name__ == "__main__":
    main()

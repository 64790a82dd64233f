"""The package as napari and pip meet it: lazy import, manifest, what is in the wheel."""

from __future__ import annotations

import ast
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from npe2 import PluginManager, PluginManifest

import napari_sightline

HEAVY = ("torch", "nibabel", "scipy", "skimage", "napari", "qtpy", "numpy", "typer")


def run_python(code: str) -> str:
    """Run ``code`` in an interpreter of its own and return what it prints."""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_import_is_lazy() -> None:
    loaded = run_python(
        "import sys, napari_sightline; print(*{m.partition('.')[0] for m in sys.modules})"
    ).split()
    assert "napari_sightline" in loaded
    assert not set(HEAVY) & set(loaded)


def test_import_is_fast() -> None:
    code = (
        "import time; start = time.perf_counter(); import napari_sightline;"
        "print(time.perf_counter() - start)"
    )
    # The best of three: another process may hold the machine for a moment.
    assert min(float(run_python(code)) for _ in range(3)) < 0.3


@pytest.mark.parametrize("package", ["torch", "monai"])
def test_a_package_is_imported_whole_before_its_parts(package: str, repository: Path) -> None:
    """Else a part that is met while another thread imports the package is run on half of it."""
    faults = []

    def look(node: ast.AST, whole: bool, where: str) -> bool:
        names = [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
        names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        for name in names:
            whole = whole or name == package
            if name.startswith(f"{package}.") and not whole:
                faults.append(f"{where}:{node.lineno} imports {name}")  # type: ignore[attr-defined]
        if not (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"):
            for child in ast.iter_child_nodes(node):
                whole = look(child, whole, where)
        return whole

    for path in sorted((repository / "src").rglob("*.py")):
        look(ast.parse(path.read_text(encoding="utf-8")), False, path.name)
    assert not faults


def test_volume_and_prompts_do_not_import_torch() -> None:
    loaded = run_python(
        "import sys; from napari_sightline import Volume, Point; print('torch' in sys.modules)"
    )
    assert loaded.strip() == "False"


@pytest.mark.parametrize("name", napari_sightline.__all__)
def test_every_public_name_resolves(name: str) -> None:
    assert getattr(napari_sightline, name) is not None
    assert name in dir(napari_sightline)


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Volumes'"):
        _ = napari_sightline.Volumes


def test_manifest_is_found_by_napari(repository: Path) -> None:
    manager = PluginManager()
    manager.discover()
    found = manager.get_manifest("napari-sightline")
    assert found == PluginManifest.from_file(repository / "napari.yaml")
    assert found.package_version == napari_sightline.__version__


def test_every_command_of_the_manifest_can_be_imported(repository: Path) -> None:
    PluginManifest.from_file(repository / "napari.yaml").validate_imports()


def test_manifest_uses_menus_that_napari_knows(repository: Path) -> None:
    from napari._app_model.constants._menus import is_menu_contributable

    manifest = PluginManifest.from_file(repository / "napari.yaml")
    assert "napari/layers/segment" in manifest.contributions.menus
    assert all(is_menu_contributable(menu) for menu in manifest.contributions.menus)


@pytest.fixture(scope="module")
def wheel(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """A wheel built from the work tree with the installed hatchling."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=repository,
        check=True,
        capture_output=True,
    )
    (path,) = folder.glob("*.whl")
    return zipfile.ZipFile(path)


def test_wheel_holds_the_manifest_once(wheel: zipfile.ZipFile, repository: Path) -> None:
    names = wheel.namelist()
    assert [n for n in names if n.endswith("napari.yaml")] == ["napari_sightline/napari.yaml"]
    assert wheel.read("napari_sightline/napari.yaml") == (repository / "napari.yaml").read_bytes()


def test_wheel_holds_the_package_and_nothing_beside_it(wheel: zipfile.ZipFile) -> None:
    names = wheel.namelist()
    assert "napari_sightline/py.typed" in names
    tops = {name.partition("/")[0] for name in names}
    info = f"napari_sightline-{napari_sightline.__version__}.dist-info"
    assert tops == {"napari_sightline", info}
    assert f"{info}/licenses/LICENSE" in names


def test_wheel_holds_the_embedded_weights_and_their_card(wheel: zipfile.ZipFile) -> None:
    folder = "napari_sightline/models/weights/"
    sizes = {i.filename: i.file_size for i in wheel.infolist() if i.filename.startswith(folder)}
    assert 0 < sizes[folder + "sightline-3d.safetensors"] <= 16e6
    cards = [name for name in sizes if Path(name).stem.startswith("sightline-3d")]
    assert len(cards) >= 2, "no model card beside the weights"
    assert all(name.endswith((".safetensors", ".md", ".json")) for name in sizes)


def test_qt_is_never_a_hard_dependency(wheel: zipfile.ZipFile) -> None:
    (metadata,) = (name for name in wheel.namelist() if name.endswith("/METADATA"))
    required = [
        line.removeprefix("Requires-Dist: ").lower()
        for line in wheel.read(metadata).decode().splitlines()
        if line.startswith("Requires-Dist:") and "extra ==" not in line
    ]
    assert any(line.startswith("torch") for line in required)
    assert not [line for line in required if line.startswith(("pyqt", "pyside", "napari["))]

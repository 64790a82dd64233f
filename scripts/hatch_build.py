"""Let an editable install find the manifest.

napari looks for ``napari.yaml`` inside the package. A wheel gets it there from
the top of the repository; an editable install has no wheel's tree, so it gets a
link from the package to that one file. Git ignores the link.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class ManifestLink(BuildHookInterface):
    """Build hook: link the manifest into the package on an editable install."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Make the link; ``version`` is "editable" or "standard"."""
        if version != "editable":
            return
        link = Path(self.root, "src", "napari_sightline", "napari.yaml")
        link.unlink(missing_ok=True)
        try:
            link.symlink_to(Path("..", "..", "napari.yaml"))
        except OSError:  # Windows without the right to make links
            shutil.copyfile(Path(self.root, "napari.yaml"), link)

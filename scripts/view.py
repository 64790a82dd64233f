"""Open napari with the prompt panel on the sample phantom, or on the files given."""

from __future__ import annotations

import sys

import napari


def main() -> None:
    viewer = napari.Viewer()
    if len(sys.argv) > 1:
        viewer.open(sys.argv[1:], plugin="napari-sightline")
    else:
        viewer.open_sample("napari-sightline", "head-neck-phantom")
    viewer.window.add_plugin_dock_widget("napari-sightline", "Segment with prompts")
    napari.run()


if __name__ == "__main__":
    main()

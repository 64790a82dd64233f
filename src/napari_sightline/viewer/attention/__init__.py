"""The attention panel: where a model looked, as layers on the scan."""

from napari_sightline.viewer.attention.panel import AttentionPanel

__all__ = ["AttentionPanel"]

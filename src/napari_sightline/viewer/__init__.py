"""The napari plugin: the only room that knows napari and Qt."""

from napari_sightline.environment import prepare_torch

prepare_torch()  # torch is first loaded long after this room

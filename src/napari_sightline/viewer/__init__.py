"""The napari plugin: the only room that knows napari and Qt."""

import os

# Torch reads this when it is first loaded, long after this room. Threads that spin while they wait
# would take the cores from the window; on a busy machine a click took many times as long.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

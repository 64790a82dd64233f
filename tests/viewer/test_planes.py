"""Going to a place of a scan."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from viewer_making import User

from napari_sightline.viewer.planes import go_to, step_to


@pytest.fixture
def image(user: User) -> Any:
    voxels = np.zeros((9, 10, 11), np.float32)
    return user.viewer.add_image(voxels, scale=(2.1, 0.7, 1 / 3), translate=(-7.3, 0.1, 100.7))


def sliced(image: Any) -> list[None]:
    """Grows whenever napari slices a layer."""
    found: list[None] = []
    image.events.set_data.connect(lambda _: found.append(None))
    return found


@pytest.mark.parametrize("order", [(0, 1, 2), (1, 0, 2), (2, 0, 1)])
def test_a_place_is_shown_and_layers_are_sliced_once(
    user: User, image: Any, order: tuple[int, int, int]
) -> None:
    dims = user.viewer.dims
    dims.order = order
    user.qtbot.wait(20)
    count = sliced(image)
    go_to(user.viewer, image, (6, 2, 9))
    user.qtbot.wait(20)
    assert dims.current_step == (6, 2, 9)
    np.testing.assert_allclose(dims.point, image.data_to_world((6, 2, 9)))
    assert len(count) == 1


def test_between_two_slices_the_nearest_is_shown(user: User, image: Any) -> None:
    count = sliced(image)
    step_to(user.viewer, [0], [image.data_to_world((3.4, 0, 0))[0]])
    user.qtbot.wait(20)
    assert user.viewer.dims.current_step[0] == 3 and len(count) == 1
    np.testing.assert_allclose(user.viewer.dims.point[0], image.data_to_world((3, 0, 0))[0])

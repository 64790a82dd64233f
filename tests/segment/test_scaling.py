"""Intensities as a network wants them."""

from __future__ import annotations

import numpy as np
import pytest

from napari_sightline.errors import BadInput
from napari_sightline.models.segmenter import IntensityRule
from napari_sightline.segment.scaling import Scaling

pytest.importorskip("monai")


class TestScaling:
    data = np.random.default_rng(0).normal(100, 300, (20, 21, 22)).astype(np.float32)

    def test_like_monai(self) -> None:
        from monai.transforms.intensity.array import (
            NormalizeIntensity,
            ScaleIntensityRange,
            ScaleIntensityRangePercentiles,
        )

        holes = self.data * (self.data > 0)
        for rule, transform, data in (
            (
                IntensityRule("window", -175, 250, 0, 1),
                ScaleIntensityRange(-175, 250, 0, 1, clip=True),
                self.data,
            ),
            (
                IntensityRule("window", -175, 250, -1, 1, False),
                ScaleIntensityRange(-175, 250, -1, 1),
                self.data,
            ),
            (
                IntensityRule("percentile", 1, 99, 0, 1),
                ScaleIntensityRangePercentiles(1, 99, 0, 1, clip=True),
                self.data,
            ),
            (IntensityRule("zscore"), NormalizeIntensity(), self.data),
            (IntensityRule("zscore_nonzero"), NormalizeIntensity(nonzero=True), holes),
        ):
            expected = np.asarray(transform(data[None].copy()))[0]
            found = Scaling.of(rule, data).apply(data)
            np.testing.assert_allclose(found, expected, atol=2e-4, err_msg=str(rule))

    def test_what_is_not_finite(self) -> None:
        data = self.data.copy()
        data[0, 0, 0], data[1, 1, 1] = np.nan, np.inf
        for kind in ("window", "percentile", "zscore", "zscore_nonzero", "none"):
            rule = IntensityRule(kind, 1, 99) if kind == "percentile" else IntensityRule(kind)
            found = Scaling.of(rule, data).apply(data)
            assert np.isfinite(found).all()
        with pytest.raises(BadInput, match="is empty; give"):
            Scaling.of(IntensityRule("window", 5, 5), data)

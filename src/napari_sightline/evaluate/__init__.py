"""Measure segmentations: metrics, a robot user, a no-learning baseline, benchmarks."""

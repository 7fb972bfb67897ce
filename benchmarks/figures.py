"""The arithmetic of the reports: medians, percentiles, ratios of the same round."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence

#: The figures of one measurement, by name.
Sample = Mapping[str, float]


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that at least ``percent`` of the values do not exceed (nearest rank)."""
    if not values:
        raise ValueError("no values")
    rank = max(1, math.ceil(len(values) * percent / 100))
    return sorted(values)[rank - 1]


def median(samples: Sequence[Sample | None], metric: str) -> float | None:
    """Middle of the rounds that have this metric."""
    found = [sample[metric] for sample in samples if sample is not None and metric in sample]
    return statistics.median(found) if found else None


def ratios(ours: Sequence[Sample | None], theirs: Sequence[Sample | None], metric: str) -> list[float]:
    """``ours / theirs`` for every round in which both were measured."""
    pairs = zip(ours, theirs, strict=False)
    both = [(one[metric], other[metric]) for one, other in pairs if one and other]
    return [one / other for one, other in both if other]


def median_ratio(ours: Sequence[Sample | None], theirs: Sequence[Sample | None], metric: str) -> float | None:
    """Middle of the ratios of the rounds; not the ratio of the middles: machines change in between."""
    found = ratios(ours, theirs, metric)
    return statistics.median(found) if found else None


def spread(values: Sequence[float]) -> float:
    """Half of what lies between the smallest and the largest value, as a part of the middle."""
    if len(values) < 2 or not statistics.median(values):
        return 0.0
    return (max(values) - min(values)) / 2 / statistics.median(values)

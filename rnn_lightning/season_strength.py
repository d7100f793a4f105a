"""How strong a season is in the values of a series: shared by the tables and the pretrained network."""

import numpy as np

MAX_REPEATS = 20
"""Number of repeats at the end of a series to examine: earlier seasons may have differed."""

MIN_STRENGTH = 0.3
"""Share of the detrended variance that a season must explain."""


def strength(values: np.ndarray, season: int) -> tuple[float, float]:
    """Return the strength of a season in ``(time,)`` and its threshold, see ``strengths``."""
    share, threshold = strengths(values[None], season)
    return float(share[0]), float(threshold[0])


def strengths(values: np.ndarray, season: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the share of the detrended variance of each row that a season explains, and its threshold.

    The share is the intraclass correlation of the phases (Fisher 1925), which is 0 on average for noise,
    however few the repeats. Both are NaN for less than two repeats and for constant values.

    Args:
        values: ``(row, time)``, NaN where unknown.
        season: steps of the season.

    Returns:
        Two arrays ``(row,)``.
    """
    values = values[:, -MAX_REPEATS * season :]
    num_rows, length = values.shape
    if length < 2 * season:
        return np.full(num_rows, np.nan), np.full(num_rows, np.nan)
    padding = ((0, 0), (0, -length % season))
    rest = np.pad(values - trend(values, season), padding, constant_values=np.nan)
    rest = rest.reshape(num_rows, -1, season)  # (row, repeat, phase)
    known = ~np.isnan(rest)
    counts, filled = known.sum(1), np.where(known, rest, 0.0)
    means, number = filled.sum(1) / counts.clip(1), counts.sum(1)  # (row, phase), (row,)
    num_phases = (counts > 0).sum(1)  # fewer than the season where a series has no Sundays, say
    between, within = num_phases - 1, number - num_phases  # degrees of freedom
    inner = np.where(known, np.square(rest - means[:, None]), 0.0).sum((1, 2)) / within.clip(1)
    overall = filled.sum((1, 2)) / number.clip(1)
    outer = (counts * np.square(means - overall[:, None])).sum(1) / between.clip(1)
    variances = _means(np.square(values - _means(values)))[:, 0]
    is_defined = (within >= 1) & (between >= 1) & (outer + inner > 1e-12 * variances)
    repeats = np.where(is_defined, number / num_phases.clip(1), 2.0)
    noise = 2 * np.sqrt(2 / between.clip(1) + 2 / within.clip(1)) / repeats  # two deviations of the share
    # A random walk may look like two repeats of a season, but hardly ever like five.
    threshold = np.maximum(noise, MIN_STRENGTH * repeats / (repeats - 1))
    share = (outer - inner) / np.where(is_defined, outer + (repeats - 1) * inner, 1.0)
    return np.where(is_defined, share, np.nan), np.where(is_defined, threshold, np.nan)


def detrended(values: np.ndarray, season: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the known values without their trend, ``(known,)``, and the phase of each."""
    rest = values - trend(values, season)
    known = np.flatnonzero(~np.isnan(rest))
    return rest[known], known % season


def trend(values: np.ndarray, season: int) -> np.ndarray:
    """Return the centred moving average over one season, or a line for less than three seasons.

    Args:
        values: ``(..., time)``, NaN where unknown.
        season: steps of the season.
    """
    if values.shape[-1] < 3 * season:
        return line(values)
    known, level = ~np.isnan(values), _means(values)
    sums = _moving_sums(np.where(known, values - level, 0.0), season)
    counts = _moving_sums(known.astype(float), season)
    is_enough = counts > counts.max(-1, keepdims=True) / 2
    means = np.full(values.shape, np.nan)
    middle = slice(season // 2, season // 2 + sums.shape[-1])
    means[..., middle] = np.where(is_enough, level + sums / np.maximum(counts, 1), np.nan)
    return means


def line(values: np.ndarray) -> np.ndarray:
    """Return the least-squares line through the known ``(..., time)``, or the values if two are known."""
    known, steps = ~np.isnan(values), np.arange(float(values.shape[-1]))
    number = known.sum(-1, keepdims=True)
    middle = np.where(known, steps, 0.0).sum(-1, keepdims=True) / number.clip(1)
    centred, level = np.where(known, steps - middle, 0.0), _means(values)
    products = (centred * np.where(known, values - level, 0.0)).sum(-1, keepdims=True)
    slope = products / np.where(number > 2, np.square(centred).sum(-1, keepdims=True), 1.0)
    return np.where(number > 2, level + slope * (steps - middle), values)


def _means(values: np.ndarray) -> np.ndarray:
    """Return the means of the known ``(..., time)``, ``(..., 1)``, 0 where none is known."""
    known = ~np.isnan(values)
    return np.where(known, values, 0.0).sum(-1, keepdims=True) / known.sum(-1, keepdims=True).clip(1)


def _moving_sums(values: np.ndarray, season: int) -> np.ndarray:
    """Return the sums over a season around each step; the outermost steps of an even one count half."""
    total = np.cumsum(values, -1)
    total = np.concatenate([np.zeros_like(total[..., :1]), total], -1)
    sums = total[..., season:] - total[..., :-season]
    return sums if season % 2 else (sums[..., 1:] + sums[..., :-1]) / 2

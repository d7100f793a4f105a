"""A long season, such as the year of daily values, as a few harmonics beside a short one."""

import numpy as np

MAX_HARMONICS, RIDGE = 6, 1e-3

MAX_AUTOCORRELATION = 0.98


def take_out_year(
    values: np.ndarray, horizon: int, season: int, year: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return a series without its yearly harmonics, and these over the next ``horizon`` steps.

    A least-squares fit has a piecewise linear level with a knot a year, the profile of the short season, and
    none to six harmonics of the year: as many as the Bayesian information criterion prefers.

    Args:
        values: ``(time,)``, NaN where unknown.
        horizon: number of steps to continue the harmonics.
        season: steps of the short season, 1 for none.
        year: steps of a year, a fraction perhaps.
    """
    known = np.flatnonzero(~np.isnan(values))
    begin = int(known[0]) if len(known) else 0
    own = values[begin:]
    mean, scale = np.nanmean(own), np.nanstd(own)
    if not scale > 0:
        return values, np.zeros(horizon)
    coefficients = _fit((own - mean) / scale, season, year) * scale
    if len(coefficients) == 0:
        return values, np.zeros(horizon)
    yearly = _harmonics(np.arange(len(own) + horizon), year, len(coefficients) // 2) @ coefficients
    rest = values.copy()
    rest[begin:] -= yearly[: len(own)]
    return rest, yearly[len(own) :]


def _fit(values: np.ndarray, season: int, year: float) -> np.ndarray:
    """Return the coefficients of the best number of harmonics of standardized ``values (time,)``."""
    steps, known = np.arange(len(values)), ~np.isnan(values)
    knots = np.linspace(0, len(values) - 1, max(2, int(len(values) / year) + 1))
    level = np.stack([np.interp(steps, knots, row) for row in np.eye(len(knots))], 1)
    profile = np.eye(season)[steps % season][:, 1:]
    base = np.concatenate([level, profile, _harmonics(steps, year, MAX_HARMONICS)], 1)[known]
    num_others, target = level.shape[1] + profile.shape[1], values[known]
    products, moments = base.T @ base, base.T @ target
    fits = []
    for count in range(MAX_HARMONICS + 1):
        size = num_others + 2 * count
        solution = np.linalg.solve(products[:size, :size] + RIDGE * np.eye(size), moments[:size])
        fits.append((solution, target - base[:, :size] @ solution))
    num_free = _independent_values(fits[-1][1])
    criteria = [
        num_free * np.log(np.square(rest).mean() + 1e-12) + len(solution) * np.log(max(num_free, 3))
        for solution, rest in fits
    ]
    return fits[int(np.argmin(criteria))][0][num_others:]


def _independent_values(rest: np.ndarray) -> float:
    """Return how many independent values autocorrelated residuals are worth."""
    correlation = (rest[1:] * rest[:-1]).sum() / (np.square(rest).sum() + 1e-12)
    correlation = np.clip(correlation, 0.0, MAX_AUTOCORRELATION)
    return float(len(rest) * (1 - correlation) / (1 + correlation))


def _harmonics(steps: np.ndarray, period: float, count: int) -> np.ndarray:
    """Return sines and cosines of a period, ``(time, 2 * count)``."""
    angles = 2 * np.pi / period * steps[:, None] * np.arange(1, count + 1)  # (time, count)
    return np.stack([np.sin(angles), np.cos(angles)], 2).reshape(len(steps), -1)

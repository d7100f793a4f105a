"""The seasons of each series: candidates by its calendar, weighted by their errors on its own values.

Candidates of a series are no season, each season of its calendar that its history is long enough for, and the
shortest one beside the year as harmonics. All of them forecast the series, from its end and from earlier
origins, and the forecast of the series is their weighted mean. Nothing is taken from other series.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from rnn_lightning.season_strength import MAX_REPEATS, strengths

MIN_YEARS = 1.6
"""Years of history from which the year is a candidate."""

LONG_SEASON, MIN_LONG_SEASONS = 24, 1.5
"""Steps above which a season needs so many repeats; a shorter one needs a single repeat and two steps."""

CLEAR_STRENGTH = 0.3
"""Strength of the shortest season above which no season is no candidate."""

WEIGHT_POWER, PRIOR_OF_NONE = 8.0, 0.5
"""Weights fall with this power of the error; no season has this much of the weight of another."""

SURE_STEPS = 8
"""One-step errors from which the whole power applies where there is no earlier origin."""

MIN_ORIGIN = 10
"""Steps that an earlier origin has to leave, beside two seasons and two steps."""

ERROR_FLOOR, ROUNDING = 1e-3, 1e-6
"""Parts of the one-step error and of the magnitude of a series below which errors count as equal.

Errors of exact repeats are those of rounding, which differ from batch to batch.
"""

LEAST_ONE_STEP = 0.1
"""The part of the least hold-out error that is added to one-step errors.

After a season of zeros the next one is sure for any candidate, and says nothing.
"""

NUM_ORIGINS = 3


class Candidate(NamedTuple):
    """A season in steps, 1 for none, and beside it the steps of a year taken as harmonics, 0 for none."""

    season: int
    year: float = 0.0


class CandidateErrors(NamedTuple):
    """Absolute errors of every candidate, ``(candidate, row, ...)``.

    Attributes:
        one_step: ``(candidate, row, time)``, right-aligned errors one step ahead, NaN if not counted.
        hold_out: ``(candidate, origin, row)``, mean errors of forecasts from earlier origins, NaN for none.
    """

    one_step: np.ndarray
    hold_out: np.ndarray


class SeasonCandidates(NamedTuple):
    """The candidates of the rows of a batch.

    Attributes:
        all: every candidate of any row, no season first.
        active: ``(candidate, row)``, whether it is a candidate of the row.
        shortest: ``(row,)``, the shortest season by the calendar, 1 for none.
        lengths: ``(row,)``, steps from the first known value on.
    """

    all: list[Candidate]
    active: np.ndarray
    shortest: np.ndarray
    lengths: np.ndarray


def find_candidates(
    values: np.ndarray, seasons: np.ndarray, years: np.ndarray, given: np.ndarray
) -> SeasonCandidates:
    """Return the candidates of rows.

    Args:
        values: ``(row, time)``, NaN where unknown.
        seasons: ``(row, k)``, seasons by the calendar, shortest first, 0 where there are fewer.
        years: ``(row,)``, steps of a year, 0 for none.
        given: ``(row,)``, the season of a row without seasons by the calendar, 1 for none.
    """
    known = ~np.isnan(values)
    lengths = np.where(known.any(1), values.shape[1] - known.argmax(1), 0)
    shortest = np.maximum(seasons[:, :1].max(1, initial=0), 1)
    is_given = (seasons == 0).all(1) & (given > 1)
    lengths_found = np.unique([*seasons.flat, *given[is_given]])
    every = [Candidate(1), *(Candidate(int(season)) for season in lengths_found if season > 1)]
    has_year = (years > 0) & (lengths >= MIN_YEARS * years)
    pairs = np.unique(np.stack([shortest, years], 1)[has_year], axis=0)
    every += [Candidate(int(season), float(year)) for season, year in pairs]
    active = np.zeros((len(every), len(values)), bool)
    for index, (season, year) in enumerate(every[1:], 1):
        if year:
            active[index] = has_year & (shortest == season) & (years == year)
        else:
            is_own = (seasons == season).any(1)
            of_shortest = season + 2 if season <= LONG_SEASON else MIN_LONG_SEASONS * season
            needed = np.where(shortest == season, of_shortest, 2 * season + 2)
            active[index] = (is_own & (lengths >= needed)) | (is_given & (given == season))
    is_clear = _strengths(values, lengths, shortest) > CLEAR_STRENGTH
    active[0] = ~active.any(0) | ~(is_clear | is_given)
    return SeasonCandidates(every, active, shortest, lengths)


def origin_offsets(horizon: int) -> list[int]:
    """Return the steps before the end of a history at which its earlier origins are."""
    return [horizon, horizon + (horizon + 1) // 2, 2 * horizon][:NUM_ORIGINS]


def usable_origins(candidates: SeasonCandidates, horizon: int) -> np.ndarray:
    """Return which earlier origins ``(origin, row)`` leave enough history for all candidates of a row."""
    needed = [2 * season + 2 if season > 1 and not year else 0 for season, year in candidates.all]
    least = (candidates.active * np.maximum(needed, MIN_ORIGIN)[:, None]).max(0)
    return candidates.lengths - np.array(origin_offsets(horizon))[:, None] >= least


def counted_errors(candidates: SeasonCandidates, index: int, errors: np.ndarray, length: int) -> np.ndarray:
    """Return one-step errors ``(row, time)`` of a candidate with NaN where they do not count.

    The first steps of a context of ``length`` steps only warm the network up: two seasons, or one where it is
    short.
    """
    season = candidates.all[index].season
    lengths = np.minimum(candidates.lengths, length)
    seasonal = np.minimum(2 * season, np.maximum(season, lengths - 8))
    warm_up = seasonal if season > 1 else np.minimum(10, lengths // 3)
    counted = np.maximum(lengths - 1 - warm_up, 1)
    from_end = np.arange(errors.shape[1], 0, -1)
    return np.where(from_end <= counted[:, None], errors, np.nan)


def candidate_weights(
    candidates: SeasonCandidates, errors: CandidateErrors, magnitude: np.ndarray
) -> np.ndarray:
    """Return the weights ``(candidate, row)``, which sum to 1 over the candidates of a row.

    Weights are ``(one-step error x hold-out error) ** -4``; the hold-out error is a geometric mean over the
    origins, and one-step errors count where all candidates have one. Without an origin the one-step error
    takes its place. A row without any error has its shortest season.

    Args:
        candidates: the candidates.
        errors: their errors.
        magnitude: ``(row,)``, the mean absolute value of a row.
    """
    active = candidates.active
    shared = (~np.isnan(errors.one_step) | ~active[..., None]).all(0)  # (row, time)
    num_steps = shared.sum(1)
    one_step = nan_mean(np.where(shared, errors.one_step, np.nan), 2)  # (candidate, row)
    one_step = without_rounding(one_step, magnitude)
    floor = ERROR_FLOOR * one_step
    hold_out = np.exp(nan_mean(np.log(without_rounding(errors.hold_out, magnitude) + floor[:, None]), 1))
    has_origin = np.isfinite(hold_out)
    hold_out = np.where(has_origin, hold_out, one_step) + floor
    least = np.where(active & has_origin, hold_out, np.inf).min(0)  # (row,)
    one_step = one_step + LEAST_ONE_STEP * np.where(np.isfinite(least), least, 0.0)
    power = WEIGHT_POWER * np.where(has_origin, 1.0, np.minimum(1.0, num_steps / SURE_STEPS))
    log_weights = -0.5 * power * (np.log(hold_out) + np.log(one_step + floor))
    log_weights[0] += np.log(PRIOR_OF_NONE)
    undecided = (np.isnan(log_weights) & active).any(0)
    for row in np.flatnonzero(undecided):
        shortest = 1 + int(active[1:, row].argmax()) if active[1:, row].any() else 0
        log_weights[:, row] = np.where(np.arange(len(active)) == shortest, 0.0, -np.inf)
    log_weights = np.where(active, log_weights, -np.inf)
    weights = np.exp(log_weights - log_weights.max(0))
    return weights / weights.sum(0)


def weighted_mean(weights: np.ndarray, forecasts: np.ndarray) -> np.ndarray:
    """Return the mean over candidates of ``forecasts (candidate, ..., row, horizon)``, those with weight."""
    shape = (len(weights), *[1] * (forecasts.ndim - 3), weights.shape[1], 1)
    weights = weights.reshape(shape)
    return (weights * np.where(weights > 0, forecasts, 0.0)).sum(0)


def error_ratio(errors: np.ndarray, others: np.ndarray, magnitude: np.ndarray) -> np.ndarray:
    """Return the mean error over that of another forecaster, ``(row,)``, NaN without an origin.

    Args:
        errors: ``(origin, row)``, mean errors of forecasts from earlier origins, NaN for none.
        others: ``(origin, row)``, those of the other one.
        magnitude: ``(row,)``, the mean absolute value of a row.
    """
    own, other = (without_rounding(nan_mean(each, 0), magnitude) for each in (errors, others))
    return own / other


def without_rounding(errors: np.ndarray, magnitude: np.ndarray) -> np.ndarray:
    """Return errors ``(..., row)`` of which those from rounding are equal, and none is zero."""
    least = ROUNDING * magnitude
    return np.maximum(errors - least, 0.0) + least + np.finfo(float).tiny


def nan_mean(values: np.ndarray, axis: int | Sequence[int]) -> np.ndarray:
    """Return the mean of the known values, NaN without a warning where there are none."""
    axis = tuple(axis) if isinstance(axis, Sequence) else axis
    known = ~np.isnan(values)
    counts = known.sum(axis)
    return np.where(counts > 0, np.where(known, values, 0.0).sum(axis) / np.maximum(counts, 1), np.nan)


def _strengths(values: np.ndarray, lengths: np.ndarray, seasons: np.ndarray) -> np.ndarray:
    """Return the strength ``(row,)`` of the season of each row in its last steps, NaN without a season."""
    found, used = np.full(len(values), np.nan), np.minimum(lengths, MAX_REPEATS * seasons)
    for season, length in np.unique(np.stack([seasons, used], 1)[seasons > 1], axis=0).tolist():
        rows = np.flatnonzero((seasons == season) & (used == length))
        found[rows] = strengths(values[rows, values.shape[1] - length :], season)[0]
    return found

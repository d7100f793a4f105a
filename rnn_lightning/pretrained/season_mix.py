"""The network's forecasts of series by each of their candidate seasons, and the weights of these."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from rnn_lightning.data.windows import ends_in_long_gap
from rnn_lightning.pretrained.candidate_runs import Runs, context_length, cut_contexts, run_network
from rnn_lightning.pretrained.season_policy import (
    MIN_YEARS,
    Candidate,
    CandidateErrors,
    SeasonCandidates,
    candidate_weights,
    counted_errors,
    find_candidates,
    nan_mean,
    origin_offsets,
    usable_origins,
)
from rnn_lightning.pretrained.seasonal import SeasonalNetwork
from rnn_lightning.pretrained.yearly_harmonics import take_out_year
from rnn_lightning.transforms import Traits

MAX_COUNTED = 400
"""Last one-step errors of a context that are compared."""

LONG_HISTORY = 80
"""Steps from which a history is long: its scale at the end is about that at its earlier origins."""


class Histories(NamedTuple):
    """Series up to their origins, in double precision.

    Attributes:
        values: ``(batch, time, feature)``, NaN where unknown.
        covariates: ``(batch, time + horizon, covariate)``, or None.
        horizon: steps to forecast.
    """

    values: np.ndarray
    covariates: np.ndarray | None
    horizon: int

    @property
    def rows(self) -> np.ndarray:
        """Every feature as a series of its own, ``(batch * feature, time)``."""
        return self.values.transpose(0, 2, 1).reshape(-1, self.values.shape[1])

    def targets(self) -> np.ndarray:
        """Return the values ``(origin, row, horizon)`` after the earlier origins, NaN before the start."""
        rows = self.rows
        found = np.full((len(origin_offsets(self.horizon)), len(rows), self.horizon), np.nan)
        for origin, offset in enumerate(origin_offsets(self.horizon)):
            begin = rows.shape[1] - offset
            if begin >= 0:
                found[origin] = rows[:, begin : begin + self.horizon]
        return found

    def stale_origins(self) -> np.ndarray:
        """Return which earlier origins ``(origin, row)`` come after long gaps."""
        rows, num_steps = torch.from_numpy(self.rows)[..., None], self.values.shape[1]
        offsets = origin_offsets(self.horizon)
        stale = [ends_in_long_gap(rows[:, : max(num_steps - offset, 0)], self.horizon) for offset in offsets]
        return torch.stack(stale)[..., 0].numpy()


class SeasonMix(NamedTuple):
    """The network's forecasts by every candidate season of each row, and their weights.

    Attributes:
        candidates: the candidates.
        weights: ``(candidate, row)``.
        forecasts: ``(candidate, 1 + origin, row, horizon)``, from the end and from the earlier origins, NaN
            where there are none.
        targets: ``(origin, row, horizon)``, the values after the earlier origins.
    """

    candidates: SeasonCandidates
    weights: np.ndarray
    forecasts: np.ndarray
    targets: np.ndarray

    @property
    def best(self) -> np.ndarray:
        """The place of the candidate with the largest weight, ``(row,)``."""
        return self.weights.argmax(0)


def mix_seasons(
    network: SeasonalNetwork, histories: Histories, traits: Traits, hold_outs: bool = True
) -> SeasonMix:
    """Forecast series by all their candidate seasons, and weigh these.

    Args:
        network: the network.
        histories: the series.
        traits: ``seasons (batch, k)`` and perhaps ``year (batch,)`` and ``season (batch,)``.
        hold_outs: whether to forecast from earlier origins too; else one-step errors alone give the weights.
    """
    rows, num_features = histories.rows, histories.values.shape[2]
    candidates = find_candidates(rows, *(trait.repeat(num_features, 0) for trait in _calendar(traits)))
    usable = np.zeros((len(origin_offsets(histories.horizon)), len(rows)), bool)
    if hold_outs:
        usable = usable_origins(candidates, histories.horizon) & ~histories.stale_origins()
    num_candidates, num_rows = candidates.active.shape
    forecasts = np.full((num_candidates, 1 + len(usable), num_rows, histories.horizon), np.nan)
    errors = np.full((num_candidates, num_rows, MAX_COUNTED), np.nan)
    is_long = candidates.lengths.reshape(-1, num_features).min(1) >= LONG_HISTORY  # (series,)
    for index, candidate in enumerate(candidates.all):
        wanted = candidates.active[index] & np.concatenate([np.ones((1, num_rows), bool), usable])
        _run_candidate(network, histories, candidate, wanted, is_long, forecasts[index], errors[index])
        length = context_length(candidate.season)
        errors[index] = counted_errors(candidates, index, errors[index], length)
    never_negative = ~(rows < 0).any(1)  # but harmonics that are put back may be
    forecasts = np.maximum(forecasts, np.where(never_negative, 0.0, -np.inf)[:, None])
    targets = histories.targets()
    of_origins = nan_mean(np.abs(forecasts[:, 1:] - targets), 3)
    magnitude = np.nan_to_num(nan_mean(np.abs(rows), 1))
    weights = candidate_weights(candidates, CandidateErrors(errors, of_origins), magnitude)
    return SeasonMix(candidates, weights, forecasts, targets)


def _calendar(traits: Traits) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return candidate seasons ``(batch, k)``, years and given seasons ``(batch,)`` of series."""
    seasons = traits["seasons"].numpy()
    years = traits["year"].double().numpy() if "year" in traits else np.zeros(len(seasons))
    given = traits["season"].numpy() if "season" in traits else np.ones(len(seasons), np.int64)
    return seasons, years, given


def _run_candidate(
    network: SeasonalNetwork,
    histories: Histories,
    candidate: Candidate,
    wanted: np.ndarray,
    is_long: np.ndarray,
    forecasts: np.ndarray,
    errors: np.ndarray,
) -> None:
    """Fill in the ``forecasts (1 + origin, row, horizon)`` and ``errors (row, time)`` of a candidate.

    One reading of a long history serves all its earlier origins, unless a year is taken out of it, which is
    fitted up to each of them.

    Args:
        network: the network.
        histories: the series.
        candidate: the candidate.
        wanted: ``(1 + origin, row)``, from which origins of which rows to forecast.
        is_long: ``(series,)``.
        forecasts: the forecasts to fill in.
        errors: the one-step errors to fill in.
    """
    num_features = histories.values.shape[2]
    offsets = [0, *origin_offsets(histories.horizon)]
    by_series: np.ndarray = wanted.reshape(len(offsets), -1, num_features).max(2)  # (1 + origin, series)
    together, earlier = is_long & (candidate.year == 0), range(1, len(offsets))
    groups = [([0], np.ones_like(is_long)), ([*earlier], together)]
    groups += [([origin], ~together) for origin in earlier]
    for origins, of_group in groups:
        series = np.flatnonzero(by_series[origins].max(0) & of_group)
        if len(series) == 0:
            continue
        runs = _runs(network, histories, candidate, series, [offsets[origin] for origin in origins])
        rows = (series[:, None] * num_features + np.arange(num_features)).ravel()  # (run * feature)
        of_origins = runs.forecasts.transpose(0, 1, 3, 2)  # (origin, run, feature, horizon)
        forecasts[np.ix_(origins, rows)] = of_origins.reshape(len(origins), len(rows), -1)
        if origins[0] == 0:
            counted = min(MAX_COUNTED, runs.errors.shape[1])
            errors[rows, -counted:] = runs.errors[:, -counted:].transpose(0, 2, 1).reshape(len(rows), -1)
    forecasts[~wanted] = np.nan
    errors[~wanted[0]] = np.nan


def _runs(
    network: SeasonalNetwork,
    histories: Histories,
    candidate: Candidate,
    series: np.ndarray,
    offsets: Sequence[int],
) -> Runs:
    """Run the network on the histories of ``series (run,)``, from origins ``offsets`` before their ends."""
    values, covariates, horizon = histories
    end = values.shape[1] - offsets[0]
    length = min(context_length(candidate.season) + offsets[-1] - offsets[0], max(end, 2))
    covariates = None if covariates is None else covariates[series]
    contexts = cut_contexts(values[series], end, length, horizon, covariates)
    if not candidate.year:
        before = [offset - offsets[0] for offset in offsets]
        return run_network(network, contexts, horizon, candidate.season, before)
    yearly = np.zeros((len(series), horizon, values.shape[2]))
    for run, index in enumerate(series):
        for feature in range(values.shape[2]):
            known = values[index, :end, feature]
            begin = int((~np.isnan(known)).argmax())
            if end - begin >= MIN_YEARS * candidate.year:
                rest, yearly[run, :, feature] = take_out_year(
                    known, horizon, candidate.season, candidate.year
                )
                contexts.values[run, -len(rest) :, feature] = torch.from_numpy(rest[-length:])
    runs = run_network(network, contexts, horizon, candidate.season)
    return runs._replace(forecasts=runs.forecasts + yearly)

"""Forecasts of series whose seasons are found: the network by each candidate season, and a second member."""

import math
import warnings
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from rnn_lightning.errors import InputError
from rnn_lightning.pretrained.candidate_runs import context_length
from rnn_lightning.pretrained.intermittent import (
    ZERO_REPEATS,
    is_intermittent,
    mean_forecasts,
    median_weights,
    recent_medians,
    zero_phases,
)
from rnn_lightning.pretrained.season_mix import Histories, SeasonMix, mix_seasons
from rnn_lightning.pretrained.season_policy import nan_mean, origin_offsets, weighted_mean
from rnn_lightning.pretrained.seasonal import SeasonalNetwork
from rnn_lightning.pretrained.trend_member import trend_forecasts, trend_weights
from rnn_lightning.transforms import Traits

MIN_SHARE = 0.005
"""Weight of the seasons from which a forecast has one."""

WANTED_STEPS, WANTED_SEASONS, WANTED_YEARS = 1000, 20, 8
"""Last steps, seasons and years of a history that the choice of seasons looks at, whichever are longest."""


class SeasonForecast(NamedTuple):
    """Forecasts of series by their candidate seasons and the trend.

    Attributes:
        point: ``(batch, horizon, feature)``, in the units of the data.
        own_error: ``(batch, feature)``, the mean absolute error of such forecasts from up to three earlier
            origins of each series, NaN where its history is too short, or where no hold-outs were made.
        season: ``(batch, feature)``, the season of the largest weight, 1 for none.
    """

    point: Tensor
    own_error: Tensor
    season: Tensor


def as_histories(
    network: SeasonalNetwork, context: Tensor, horizon: int, covariates: Tensor | None
) -> Histories:
    """Return contexts ``(batch, time, feature)`` and their covariates; unknown ones count as their mean.

    Raises:
        InputError: if there are other covariates than the network has.
    """
    wanted = (len(context), context.shape[1] + horizon, network.num_covariates)
    given = (*wanted[:2], 0) if covariates is None else tuple(covariates.shape)
    if given != wanted:
        rule = f"the covariates must be (batch, time + horizon, covariate) = {wanted}"
        raise InputError(f"{rule}, got {given}.")
    known = None if covariates is None else covariates.cpu().double().numpy()
    return Histories(context.cpu().double().numpy(), known, horizon)


def steps_wanted(traits: Traits, horizon: int) -> int:
    """Return how many last steps of series with these traits a forecast looks at, 0 for any number."""
    if "seasons" not in traits:
        return 0
    longest = max(1, *(int(traits[name].amax()) for name in ("seasons", "season") if name in traits))
    years = math.ceil(WANTED_YEARS * float(traits["year"].amax())) if "year" in traits else 0
    return max(WANTED_STEPS, WANTED_SEASONS * longest, years, context_length(longest) + 2 * horizon)


@torch.no_grad()
def forecast_seasons(
    network: SeasonalNetwork,
    context: Tensor,
    horizon: int,
    *,
    traits: Traits,
    hold_outs: bool,
    as_means: bool,
    covariates: Tensor | None = None,
    names: Sequence[str] | None = None,
) -> SeasonForecast:
    """Forecast series by their candidate seasons and the trend.

    Args:
        network: the network.
        context: see ``PretrainedForecaster.forecast_with_errors``, as are the next ones.
        horizon: number of steps to forecast.
        traits: candidate seasons.
        hold_outs: whether to forecast from earlier origins too.
        as_means: whether intermittent series have mean forecasts, see ``intermittent.py``.
        covariates: ``(batch, time + horizon, covariate)``.
        names: names of the series, for the warning about those without a known value.
    """
    histories = as_histories(network, context, horizon, covariates)
    with torch.autocast(context.device.type, enabled=False):
        mix = mix_seasons(network, histories, traits, hold_outs)
    forecasts, errors = add_second(histories, mix)
    weight, num_series = network.readout.weight, len(histories.values)
    seasons = np.array([mix.candidates.all[index].season for index in mix.best])
    points = forecasts[0]
    if as_means:  # where a year is taken as harmonics, these know when there is demand
        has_year = np.array([mix.candidates.all[index].year > 0 for index in mix.best])[:, None]
        points = np.where(has_year, points, mean_forecasts(histories.rows, seasons, points))

    def as_batch(values: np.ndarray) -> Tensor:
        return torch.from_numpy(values).unflatten(0, (num_series, -1))

    point = as_batch(points).transpose(1, 2).to(weight)
    if bool((unknown := point.isnan().any(1).any(1)).any()):
        index = int(unknown.nonzero()[0])
        which = names[index] if names is not None else f"series {index} of the batch"
        warnings.warn(f"nothing is known of {which}: its forecast is NaN.", RuntimeWarning, stacklevel=3)
    return SeasonForecast(point, as_batch(nan_mean(errors, 0)).to(weight), as_batch(seasons))


def add_second(histories: Histories, mix: SeasonMix) -> tuple[np.ndarray, np.ndarray]:
    """Mix a second forecaster into the network's forecasts; return ``(1 + origin, row, horizon)`` and errors.

    The second one is the median of the last values for intermittent series, and the trend member for others.
    The second array is ``(origin, row)``, the mean absolute errors from the earlier origins.
    """
    of_network = weighted_mean(mix.weights, mix.forecasts)  # (1 + origin, row, horizon)
    rows, num_steps, horizon = histories.rows, histories.values.shape[1], histories.horizon
    harmonic = np.array([candidate.year > 0 for candidate in mix.candidates.all])
    seasons, shares = _plain_seasons(mix, harmonic), 1 - mix.weights[0]
    intermittent = is_intermittent(rows)
    of_second = np.full_like(of_network, np.nan)
    for origin, offset in enumerate([0, *origin_offsets(horizon)]):
        known = rows[:, : max(num_steps - offset, 0)]
        has_forecast = ~np.isnan(of_network[origin]).any(1)
        if (by := has_forecast & ~intermittent).any():
            of_second[origin, by] = trend_forecasts(known[by], seasons[by], shares[by], horizon)
        if (by := has_forecast & intermittent).any():
            of_second[origin, by] = recent_medians(known[by])[:, None]
    errors = [nan_mean(np.abs(part[1:] - mix.targets), 2) for part in (of_network, of_second)]
    weights = np.where(
        intermittent,
        median_weights(errors[0], errors[1], nan_mean(np.abs(rows), 1), ~mix.candidates.active[0]),
        trend_weights(rows, seasons, shares > MIN_SHARE, *errors),
    )
    weights = (weights * (1 - mix.weights[harmonic].sum(0)))[:, None]
    never_negative = ~(rows < 0).any(axis=1, keepdims=True)
    both = (1 - weights) * of_network + weights * np.where(weights > 0, of_second, 0.0)
    both = np.where(never_negative, np.maximum(both, 0.0), both)
    is_long = (seasons > 1) & (mix.candidates.lengths >= ZERO_REPEATS * seasons)
    for row in np.flatnonzero(intermittent & is_long).tolist():
        season, ahead = int(seasons[row]), np.arange(horizon)
        for origin, offset in enumerate([0, *origin_offsets(horizon)]):
            zero = zero_phases(rows[row, : max(num_steps - offset, 0)], season)
            both[origin, row, zero[ahead % season]] = 0.0
    return both, nan_mean(np.abs(both[1:] - mix.targets), 2)


def _plain_seasons(mix: SeasonMix, harmonic: np.ndarray) -> np.ndarray:
    """Return the season ``(row,)`` with the largest weight among those without a year, 1 if there is none."""
    lengths = np.array([candidate.season for candidate in mix.candidates.all])
    is_season = mix.candidates.active & ((lengths > 1) & ~harmonic)[:, None]
    best = np.where(is_season, mix.weights, -1.0).argmax(0)
    return np.where(is_season.any(0), lengths[best], 1)

"""Forecasts of batches of series of several seasons: the network generates those of each season together."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from rnn_lightning.data.windows import ForecastBatch
from rnn_lightning.losses import TrainingWindows, context_state, teacher_forced
from rnn_lightning.pretrained.candidate_runs import context_length
from rnn_lightning.pretrained.season_forecast import SeasonForecast, forecast_seasons
from rnn_lightning.pretrained.season_scale import season_groups
from rnn_lightning.pretrained.seasonal import SeasonalNetwork
from rnn_lightning.pretrained.seasonal_loss import by_season, without_end
from rnn_lightning.rollout import Forecast, generators, rollout

MAX_HOLD_OUT_SERIES = 2000
"""Series up to which ``auto`` compares seasons by forecasts from earlier origins too."""

Generate = Callable[..., Tensor]
"""Takes a context, a horizon and what is known besides, as ``Forecaster.forward`` does."""


def uses_hold_outs(choice: str, num_series: int) -> bool:
    """Return whether forecasts from earlier origins weigh the seasons: ``auto`` looks at the number."""
    return choice == "always" or (choice == "auto" and num_series <= MAX_HOLD_OUT_SERIES)


def forecast_batch_by_season(
    network: SeasonalNetwork, batch: ForecastBatch, hold_outs: bool, as_means: bool
) -> Forecast:
    """Forecast a batch of series with the trait ``seasons``, and sample paths where they are wanted."""
    if len(batch.context) == 0:  # a device without a series
        return Forecast(batch.series_index, batch.context.new_zeros(0, batch.horizon, batch.context.shape[2]))
    known: dict[str, Any] = {"covariates": batch.covariates, "traits": batch.traits, "names": batch.names}
    forecast = forecast_seasons(
        network, batch.context, batch.horizon, hold_outs=hold_outs, as_means=as_means, **known
    )
    samples = None
    if batch.num_samples is not None:
        noise = generators(batch.seed, batch.series_index.tolist())
        known |= {"generator": noise, "num_samples": batch.num_samples}
        samples = shifted_paths(network, forecast, batch.context, batch.horizon, **known)
    return Forecast(batch.series_index, forecast.point, samples, forecast.own_error)


def scaled_one_step_errors(network: SeasonalNetwork, windows: TrainingWindows) -> Tensor:
    """Return next-step errors ``(batch, scored, feature)`` in units of the noise of each series."""
    errors = torch.empty_like(windows.target)
    groups = [rows for _, rows in season_groups(windows.traits)] or [torch.arange(len(errors))]
    for rows, (group, _) in zip(groups, by_season(windows), strict=True):
        known = without_end(group, network.num_features)
        scale = network.noise_scale(context_state(network, group))  # (batch, 1, feature)
        errors[rows] = (group.target - teacher_forced(network, known)) / scale
    return errors


def generate_by_season(generate: Generate, context: Tensor, horizon: int, **known: Any) -> Tensor:
    """Generate ``([sample,] batch, horizon, feature)`` with the trait ``season`` of each series."""
    groups = list(season_groups(known.get("traits") or {}))
    if len(groups) <= 1:
        return generate(context, horizon, **known)
    values: Tensor | None = None
    known = {"names": [f"series {row} of the batch" for row in range(len(context))]} | known
    for _, rows in groups:
        part = generate(context[rows], horizon, **_select(known, rows, len(context)))
        if values is None:
            values = part.new_empty(*part.shape[:-3], len(context), *part.shape[-2:])
        values[..., rows.to(part.device), :, :] = part
    assert values is not None
    return values


def shifted_paths(
    network: SeasonalNetwork, forecast: SeasonForecast, context: Tensor, horizon: int, **known: Any
) -> Tensor:
    """Sample paths ``(sample, batch, horizon, feature)`` with the best season of each series.

    They are shifted by what the forecast differs from the path without noise.
    """
    known["traits"] = {"season": forecast.season[:, 0]}

    def generate_recent(context: Tensor, horizon: int, **known: Any) -> Tensor:
        """Generate from as many last steps as a run of the season reads."""
        length = context_length(int(known["traits"]["season"][0]))
        if known.get("covariates") is not None:
            known["covariates"] = known["covariates"][:, -(length + horizon) :]
        with torch.autocast(context.device.type, enabled=False):
            return rollout(network, context[:, -length:], horizon, **known)

    plain = {name: part for name, part in known.items() if name in ("covariates", "traits", "names")}
    paths = generate_by_season(generate_recent, context, horizon, **known)
    shift = forecast.point - generate_by_season(generate_recent, context, horizon, **plain)
    never_negative = ~(context < 0).any(1, keepdim=True)
    return torch.where(never_negative, (paths + shift).clamp_min(0.0), paths + shift)


def _select(known: dict[str, Any], rows: Tensor, batch_size: int) -> dict[str, Any]:
    """Return the rows of what is known of each series; what is known of all stays."""
    selected = dict(known)
    for name, part in known.items():
        if isinstance(part, dict):
            selected[name] = {trait: values[rows] for trait, values in part.items()}
        elif isinstance(part, Tensor) and name != "noise":
            selected[name] = part[rows.to(part.device)]
        elif isinstance(part, list) and len(part) == batch_size:
            selected[name] = [part[row] for row in rows.tolist()]
    return selected

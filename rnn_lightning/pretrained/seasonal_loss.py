"""The loss of a seasonal network: the geometric mean over windows of mean absolute errors."""

import torch
from torch import Tensor

from rnn_lightning.losses import TrainingWindows
from rnn_lightning.pretrained.season_scale import season_groups
from rnn_lightning.pretrained.seasonal import SeasonalNetwork
from rnn_lightning.recurrent import first_known

ERROR_FLOOR = 0.05
"""The part of the scale of a series below which an error hardly matters."""

MAX_ERROR, MAX_VALUE = 100.0, 500.0
"""The largest error of a step and the largest value of a window that count, in scales of the series."""


def seasonal_loss(network: SeasonalNetwork, windows: TrainingWindows, free_run_weight: float) -> Tensor:
    """Return the loss of windows of any seasons, a scalar.

    One pass over the contexts gives the next-step errors, from one and a half seasons on or in the second
    half of shorter ones, and the state from which the scored steps are generated. Windows far outside the
    scale of their contexts do not count.
    """
    totals = sum(_summed_errors(network, group, season) for group, season in by_season(windows))
    (one_step, num_windows), (free_run, num_generated) = totals  # type: ignore[misc]
    one_step, free_run = one_step / num_windows.clamp_min(1), free_run / num_generated.clamp_min(1)
    return (1 - free_run_weight) * one_step + free_run_weight * free_run


def by_season(windows: TrainingWindows) -> list[tuple[TrainingWindows, int]]:
    """Return the windows of each season, and the season."""
    groups = list(season_groups(windows.traits)) or [(1, torch.arange(len(windows.inputs)))]
    if len(groups) == 1:
        return [(windows, groups[0][0])]
    return [
        (
            windows._replace(
                inputs=windows.inputs[rows],
                target=windows.target[rows],
                traits={"season": windows.traits["season"][rows]},
            ),
            season,
        )
        for season, rows in groups
    ]


def _summed_errors(network: SeasonalNetwork, windows: TrainingWindows, season: int) -> Tensor:
    """Return the sums and counts of the next-step and of the free-run errors, ``(2, 2)``."""
    num_features, known = network.num_features, windows.context_length
    context, traits = windows.inputs[:, :known], windows.traits
    encoded = network.encode(context, None, traits, complete=windows.complete)
    inputs = windows.inputs[:, known:].clone()
    inputs[..., :num_features] = 0.0  # no innovations
    generated, _ = network.free_run(inputs, encoded.state, traits)  # (batch, scored, feature)
    values, steps = context[..., :num_features], torch.arange(known, device=context.device)
    start = first_known(values)[:, None]  # (batch, 1)
    least = ((known - start) // 2).clamp_max(3 * season // 2)
    warm = (steps[:-1] - start >= least)[..., None]
    moderate = ~(windows.inputs[..., :num_features].abs() > MAX_VALUE).any(1, keepdim=True)
    next_values = values[:, 1:].masked_fill(~(warm & moderate), torch.nan)
    target = windows.target.masked_fill(~moderate, torch.nan)
    of_next_step = geometric_error(encoded.predictions[:, :-1], next_values)
    return torch.stack([of_next_step, geometric_error(generated, target)])


def geometric_error(predicted: Tensor, target: Tensor) -> Tensor:
    """Return the sum over series of the logarithms of their mean absolute errors, and their number, ``(2,)``.

    Series of any predictability weigh alike; errors below ``ERROR_FLOOR`` count little, and very large ones
    no more. Series whose target is all NaN do not count.
    """
    known = ~target.isnan()
    errors = torch.where(known, predicted - target, 0.0).abs().clamp_max(MAX_ERROR)
    count = known.sum(1)  # (batch, feature)
    logarithms = torch.log(errors.sum(1) / count.clamp_min(1) + ERROR_FLOOR)
    counted = count > 0
    return torch.stack([torch.where(counted, logarithms, 0.0).sum(), counted.sum().to(logarithms)])


def without_end(windows: TrainingWindows, num_features: int) -> TrainingWindows:
    """Return windows with zeros after the last known step: nothing is scored there, and no gap is filled."""
    values = windows.inputs[..., :num_features]
    after_end = values.isnan().all(-1).flip(1).cummin(1).values.flip(1)  # (batch, time)
    inputs = torch.cat(
        [values.masked_fill(after_end[..., None], 0.0), windows.inputs[..., num_features:]], -1
    )
    return windows._replace(inputs=inputs)

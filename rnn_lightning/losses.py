"""The training loss in transformed units: the error of the next step, and that of the free run."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from rnn_lightning.closed_loop import close_loop
from rnn_lightning.gaps import first_known, recur_over_gaps
from rnn_lightning.pretrained.seasonal import Network, SeasonalNetwork
from rnn_lightning.recurrent import RecurrentState

ERROR_FLOOR = 0.05
"""The part of a series' scale below which an error hardly matters."""

MOST_ERROR, MOST_SCALES = 100.0, 500.0
"""The largest error of a step and the largest values of a window that count, in scales of the series."""


class Scored(NamedTuple):
    """Windows in transformed units, ready for the network.

    Attributes:
        inputs: ``(batch, context + scored, feature + covariate)``: those that warm the state up and those
            that follow. From the last one nothing is predicted; its covariates are of no meaning.
        context_length: number of first inputs that warm the state up.
        target: ``(batch, scored, feature)``, NaN where it is not known or where nothing of its context is.
        complete: no value is unknown.
    """

    inputs: Tensor
    context_length: int
    target: Tensor
    complete: bool

    def rows(self, first: int, end: int) -> "Scored":
        """The windows from ``first`` to before ``end``."""
        return self._replace(inputs=self.inputs[first:end], target=self.target[first:end])


def training_loss(network: Network, windows: Scored, free_run_weight: float = 0.0) -> Tensor:
    """The loss of a fit, a scalar: the error of the next step and, with a weight, that of the free run.

    The weight is from 0 to 1. The free run is computed without mixed precision, whose rounding errors it
    would feed back.
    """
    if isinstance(network, SeasonalNetwork):
        return seasonal_loss(network, windows, free_run_weight)
    loss = mean_squared_error(teacher_forced(network, windows), windows)
    if free_run_weight > 0:
        with torch.autocast(windows.inputs.device.type, enabled=False):
            of_free_run = mean_squared_error(free_run(network, windows), windows)
        loss = (1 - free_run_weight) * loss + free_run_weight * of_free_run
    return loss


def scored(
    network: Network,
    values: Tensor,
    context_length: int,
    covariates: Tensor | None = None,
    complete: bool | None = None,
) -> Scored:
    """Windows for the losses below.

    Args:
        network: the network.
        values: ``(batch, time, feature)`` in the units of the data, NaN where they are not known.
        context_length: number of first steps that are not scored.
        covariates: ``(batch, time, covariate)``, those of the same steps.
        complete: whether all values are known; looked up if None, for which a GPU must be waited for.
    """
    context, state = network.transforms.start(values[:, :context_length])
    target, _ = network.transforms(values[:, context_length:], state)
    known, lost = context.shape[1], context_length - context.shape[1]
    following = None
    if covariates is not None:  # of the step after each
        following = torch.cat(
            [covariates[:, lost + 1 :], covariates.new_zeros(len(values), 1, covariates.shape[2])], 1
        )
    if complete is None:
        complete = not bool(values.isnan().any())
    if not complete:
        target = target.masked_fill((first_known(context) == known)[:, None, None], torch.nan)
    inputs = network.join(torch.cat([context, target], 1), following)
    return Scored(inputs, known, target, complete)


def teacher_forced(network: Network, windows: Scored) -> Tensor:
    """The predictions ``(batch, scored, feature)``, each from the true values before it."""
    inputs, first = windows.inputs[:, :-1], windows.context_length - 1
    if isinstance(network, SeasonalNetwork):
        over = _over(windows.inputs[..., : network.num_features])[:, :-1]
        inputs = torch.cat(
            [inputs[..., : network.num_features].masked_fill(over, 0.0), inputs[..., network.num_features :]],
            -1,
        )
        return network.encode(inputs)[0][:, first:]
    if windows.complete:
        return network(inputs, first=first)[0]
    return recur_over_gaps(network, inputs, begin=_begin(network, inputs), first=first).outputs


def one_step_errors(network: Network, windows: Scored) -> Tensor:
    """The next-step errors ``(batch, scored, feature)``, in units of the noise of the network."""
    errors = windows.target - teacher_forced(network, windows)
    if isinstance(network, SeasonalNetwork):
        return errors / network.spread(context_state(network, windows))
    return errors


def free_run(network: Network, windows: Scored) -> Tensor:
    """The values ``(batch, scored, feature)`` that the network generates from the contexts."""
    state = context_state(network, windows)
    inputs = windows.inputs[:, windows.context_length :].clone()
    inputs[..., : network.num_features] = 0.0
    return close_loop(network)(inputs, state)[0]


def context_state(network: Network, windows: Scored) -> RecurrentState:
    """The state after the contexts."""
    context = windows.inputs[:, : windows.context_length]
    if isinstance(network, SeasonalNetwork):
        return network.encode(context)[2]
    num_steps = context.shape[1]
    if windows.complete:
        return network(context, first=num_steps)[1]
    return recur_over_gaps(network, context, begin=_begin(network, context), first=num_steps).state


def seasonal_loss(network: SeasonalNetwork, windows: Scored, free_run_weight: float) -> Tensor:
    """The loss of a seasonal network: the geometric mean over windows of mean absolute errors.

    One pass over the contexts gives the next-step errors, from one and a half seasons on or in the second
    half of shorter ones, and the state from which the scored steps are generated. Windows far outside the
    scale of their contexts do not count.
    """
    num_features, known = network.num_features, windows.context_length
    context = windows.inputs[:, :known]
    predictions, _, state = network.encode(context)
    inputs = windows.inputs[:, known:].clone()
    inputs[..., :num_features] = 0.0
    generated, _ = network.free_run(inputs, state)
    values, steps = context[..., :num_features], torch.arange(known, device=context.device)
    begin = first_known(values)[:, None]
    least = ((known - begin) // 2).clamp_max(3 * network.season // 2)
    warm = (steps[:-1] - begin >= least)[..., None]
    moderate = ~(windows.inputs[..., :num_features].abs() > MOST_SCALES).any(1, keepdim=True)
    next_values = values[:, 1:].masked_fill(~(warm & moderate), torch.nan)
    target = windows.target.masked_fill(~moderate, torch.nan)
    one_step, free = geometric_error(predictions[:, :-1], next_values), geometric_error(generated, target)
    return (1 - free_run_weight) * one_step + free_run_weight * free


def geometric_error(predicted: Tensor, target: Tensor) -> Tensor:
    """The logarithm of the geometric mean over rows of mean absolute errors; rows all NaN do not count.

    Series of any predictability weigh alike; errors below ``ERROR_FLOOR`` count little, and very large ones
    no more.
    """
    known = ~target.isnan()
    errors = torch.where(known, predicted - target, 0.0).abs().clamp_max(MOST_ERROR)
    count = known.sum(1)
    logarithms = torch.log(errors.sum(1) / count.clamp_min(1) + ERROR_FLOOR)
    counted = count > 0
    return torch.where(counted, logarithms, 0.0).sum() / counted.sum().clamp_min(1)


def _over(values: Tensor) -> Tensor:
    """The steps ``(batch, time, 1)`` after the last known one: nothing there is scored."""
    return values.isnan().all(-1).flip(1).cummin(1).values.flip(1)[..., None]


def _begin(network: Network, inputs: Tensor) -> Tensor:
    return first_known(inputs[..., : network.num_features])


def mean_squared_error(predicted: Tensor, windows: Scored) -> Tensor:
    """The loss over all known targets, a scalar; zero if none is known."""
    if windows.complete:
        return functional.mse_loss(predicted, windows.target)
    known = ~windows.target.isnan()
    errors = torch.where(known, predicted - windows.target, 0.0)
    return errors.square().sum() / known.sum().clamp_min(1)

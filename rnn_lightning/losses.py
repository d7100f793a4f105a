"""The training loss in transformed units: the error of the next step, and that of the free run."""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from rnn_lightning.network import Network
from rnn_lightning.recurrent import RecurrentState, first_known
from rnn_lightning.transforms import Traits, with_covariates


class TrainingWindows(NamedTuple):
    """Windows in transformed units, ready for the network.

    Attributes:
        inputs: ``(batch, context + scored, feature + covariate)``: those that warm the state up and those
            that follow. Nothing is predicted from the last one; its covariates have no meaning.
        context_length: number of first inputs that warm the state up.
        target: ``(batch, scored, feature)``, NaN where it or all of its context is unknown.
        complete: no value is unknown.
        traits: traits of the series.
        continuation: what windows continue that follow others: it has a ``teacher_forced`` and a
            ``context_state`` of its own.
    """

    inputs: Tensor
    context_length: int
    target: Tensor
    complete: bool
    traits: Traits
    continuation: Any = None

    def rows(self, start: int, end: int) -> "TrainingWindows":
        """Return the windows from ``start`` to before ``end``."""
        traits = {name: trait[start:end] for name, trait in self.traits.items()}
        return self._replace(inputs=self.inputs[start:end], target=self.target[start:end], traits=traits)

    def to(self, device: torch.device) -> "TrainingWindows":
        """Return the windows on a device; traits stay on the CPU."""
        if self.inputs.device == device:
            return self
        inputs, target = (part.to(device) for part in (self.inputs, self.target))
        return self._replace(inputs=inputs, target=target)


def training_windows(
    network: Network,
    values: Tensor,
    context_length: int,
    covariates: Tensor | None = None,
    complete: bool | None = None,
    traits: Traits | None = None,
) -> TrainingWindows:
    """Transform windows for the losses below.

    Args:
        network: the network.
        values: ``(batch, time, feature)`` in the units of the data, NaN where they are unknown.
        context_length: number of first steps that are not scored.
        covariates: ``(batch, time, covariate)``, those of the same steps.
        complete: whether all values are known; looked up if None, for which a GPU must be waited for.
        traits: traits of the series.
    """
    traits, values = {} if traits is None else traits, values.to(network.readout.weight.dtype)
    known = traits if covariates is None else with_covariates(traits, covariates[:, 1 : context_length + 1])
    context, state = network.transforms.start(values[:, :context_length], known)
    target, _ = network.transforms(values[:, context_length:], state)  # (batch, scored, feature)
    num_known, lost = context.shape[1], context_length - context.shape[1]
    following = None
    if covariates is not None:  # of the step after each
        padding = covariates.new_zeros(len(values), 1, covariates.shape[2])
        following = torch.cat([covariates[:, lost + 1 :], padding], 1)
    if complete is None:
        complete = not bool(values.isnan().any())
    if not complete:
        target = target.masked_fill((first_known(context) == num_known)[:, None, None], torch.nan)
    inputs = network.join(torch.cat([context, target], 1), following)
    return TrainingWindows(inputs, num_known, target, complete, traits)


def with_input_noise(
    windows: TrainingWindows, num_features: int, deviation: float, seed: int
) -> TrainingWindows:
    """Add normal noise to the input values; targets and covariates stay as they are."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.zeros_like(windows.inputs)
    drawn = torch.randn(*noise.shape[:2], num_features, generator=generator, dtype=noise.dtype)
    noise[..., :num_features] = deviation * drawn.to(noise)
    return windows._replace(inputs=windows.inputs + noise)


def training_loss(network: Network, windows: TrainingWindows, free_run_weight: float = 0.0) -> Tensor:
    """Return the loss of a fit, a scalar: the error of the next step and, with a weight, of the free run.

    The weight is from 0 to 1. The free run is computed without mixed precision, because it would feed the
    rounding errors back.
    """
    loss = mean_squared_error(teacher_forced(network, windows), windows)
    if free_run_weight > 0:
        with torch.autocast(windows.inputs.device.type, enabled=False):
            of_free_run = mean_squared_error(free_run(network, windows), windows)
        loss = (1 - free_run_weight) * loss + free_run_weight * of_free_run
    return loss


def teacher_forced(network: Network, windows: TrainingWindows) -> Tensor:
    """Return the predictions ``(batch, scored, feature)``, each from the true values before it."""
    if windows.continuation is not None:
        return windows.continuation.teacher_forced(network, windows)
    inputs, first = windows.inputs[:, :-1], windows.context_length - 1  # inputs end where targets begin
    return network.encode(inputs, None, windows.traits, first, windows.complete).predictions


def free_run(network: Network, windows: TrainingWindows) -> Tensor:
    """Return the values ``(batch, scored, feature)`` that the network generates from the contexts."""
    inputs = windows.inputs[:, windows.context_length :].clone()
    inputs[..., : network.num_features] = 0.0  # no innovations
    return network.free_run(inputs, context_state(network, windows), windows.traits)[0]


def context_state(network: Network, windows: TrainingWindows) -> RecurrentState:
    """Return the state after the contexts."""
    if windows.continuation is not None:
        return windows.continuation.context_state(network, windows)
    context = windows.inputs[:, : windows.context_length]
    return network.encode(context, None, windows.traits, context.shape[1], windows.complete).state


def mean_squared_error(predicted: Tensor, windows: TrainingWindows) -> Tensor:
    """Return the loss over all known targets, a scalar; zero if none is known."""
    if windows.complete:
        return functional.mse_loss(predicted, windows.target)
    known = ~windows.target.isnan()
    errors = torch.where(known, predicted - windows.target, 0.0)
    return errors.square().sum() / known.sum().clamp_min(1)

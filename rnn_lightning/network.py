"""The recurrent network: fused recurrent layers, a linear readout, and transforms of the values."""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, Protocol, get_args

import torch
from torch import Tensor, nn

from rnn_lightning.closed_loop import closed_loop
from rnn_lightning.errors import InputError, require_counts
from rnn_lightning.recurrent import RecurrentState, first_known, recur, recur_over_gaps, zero_state
from rnn_lightning.transforms import Standardize, Traits, Transforms, named_transforms

Cell = Literal["rnn_tanh", "rnn_relu", "gru", "lstm"]


class Encoded(NamedTuple):
    """What ``encode`` returns.

    Attributes:
        predictions: ``(batch, time, feature)``, one step ahead of every input from the first wanted one on.
        values: ``(batch, time, feature)``, those of the inputs, unknown ones imputed.
        state: the state after the last input.
    """

    predictions: Tensor
    values: Tensor
    state: RecurrentState


class Network(Protocol):
    """What training and generation ask of a network; ``RecurrentNetwork`` documents the methods."""

    num_features: int
    num_covariates: int
    transforms: Transforms
    covariate_scale: Standardize
    readout: nn.Linear
    residual_covariance: Tensor

    def initial_state(self, batch_size: int, traits: Traits) -> RecurrentState: ...
    def join(self, values: Tensor, next_covariates: Tensor | None) -> Tensor: ...
    def encode(
        self,
        inputs: Tensor,
        state: RecurrentState | None,
        traits: Traits,
        first_output_step: int = 0,
        complete: bool = False,
    ) -> Encoded: ...
    def free_run(
        self, inputs: Tensor, state: RecurrentState, traits: Traits
    ) -> tuple[Tensor, RecurrentState]: ...


class RecurrentNetwork(nn.Module):
    """Predicts the next values from the present ones, the next covariates and the state.

    It computes in transformed units; ``transforms`` leads there and back. It asks for no traits of a series.

    Args:
        num_features: number of features.
        cell: kind of recurrent cell.
        hidden_size: hidden units of each layer.
        num_layers: number of recurrent layers.
        dropout: probability of dropout between recurrent layers.
        transforms: names of the transforms, see ``named_transforms``.
        num_covariates: number of covariates.
    """

    residual_covariance: Tensor  # (feature, feature), of the one-step errors: the noise of sampled paths

    def __init__(
        self,
        num_features: int = 1,
        cell: Cell = "lstm",
        hidden_size: int = 32,
        num_layers: int = 1,
        dropout: float = 0.0,
        transforms: Sequence[str] = ("standardize_context",),
        num_covariates: int = 0,
    ) -> None:
        super().__init__()
        require_counts(num_features=num_features, hidden_size=hidden_size, num_layers=num_layers)
        if not 0 <= dropout < 1:
            raise InputError(f"`dropout` must be at least 0 and below 1, got {dropout}.")
        if dropout > 0 and num_layers == 1:
            raise InputError(f"`dropout` {dropout} acts between layers: it needs `num_layers` of at least 2.")
        if cell not in get_args(Cell):
            raise InputError(f"`cell`: unknown cell {cell!r}; there are {', '.join(get_args(Cell))}.")
        if num_covariates < 0:
            raise InputError(f"`num_covariates` must not be negative, got {num_covariates}.")
        self.cell, self.num_features, self.num_covariates = cell, num_features, num_covariates
        self.transforms = named_transforms(transforms, num_features)
        self.covariate_scale = Standardize(num_covariates)
        sizes: dict[str, Any] = {"num_layers": num_layers, "dropout": dropout, "batch_first": True}
        num_inputs = num_features + num_covariates
        if cell == "lstm":
            self.recurrent: nn.RNNBase = nn.LSTM(num_inputs, hidden_size, **sizes)
        elif cell == "gru":
            self.recurrent = nn.GRU(num_inputs, hidden_size, **sizes)
        else:
            self.recurrent = nn.RNN(num_inputs, hidden_size, nonlinearity=cell.removeprefix("rnn_"), **sizes)
        self.readout = nn.Linear(hidden_size, num_features)
        self.register_buffer("residual_covariance", torch.full((num_features, num_features), torch.nan))

    def initial_state(self, batch_size: int, traits: Traits) -> RecurrentState:
        """Return the zero state, from which every context starts."""
        return zero_state(self.recurrent, batch_size)

    def join(self, values: Tensor, next_covariates: Tensor | None) -> Tensor:
        """Return the inputs ``(batch, time, feature + covariate)``, see ``join``."""
        return join(values, next_covariates, self.covariate_scale)

    def encode(
        self,
        inputs: Tensor,
        state: RecurrentState | None,
        traits: Traits,
        first_output_step: int = 0,
        complete: bool = False,
    ) -> Encoded:
        """Read inputs, in which NaN is an unknown value, and predict one step ahead of each.

        Args:
            inputs: ``(batch, time, feature + covariate)``, see ``join``.
            state: the state before the first input; None for a series that begins with its first known value.
            traits: traits of the series.
            first_output_step: the first input whose next values are wanted.
            complete: whether every value is known; True skips the imputation of gaps.
        """
        values = inputs[..., : self.num_features]
        if complete:
            predictions, end = recur(self.recurrent, inputs, state, self.readout, first_output_step)
            return Encoded(predictions, values, end)
        start_step = first_known(values) if state is None else None
        steps = (first_output_step, start_step)
        return Encoded(*recur_over_gaps(self.recurrent, self.readout, inputs, state, *steps))

    def free_run(
        self, inputs: Tensor, state: RecurrentState, traits: Traits
    ) -> tuple[Tensor, RecurrentState]:
        """Generate from a state with the output fed back, see ``closed_loop``."""
        return closed_loop(self.recurrent, self.readout, inputs, state)


def join(values: Tensor, next_covariates: Tensor | None, scale: Standardize) -> Tensor:
    """Return values and, scaled, the covariates of the step after each: the inputs of a network.

    Args:
        values: ``(batch, time, feature)`` in transformed units.
        next_covariates: ``(batch, time, covariate)`` in their own units, those of the step that is predicted
            from each value; NaN, where they are unknown, counts as their mean. None without covariates.
        scale: statistics of the covariates.

    Raises:
        InputError: if there are other covariates than those the network was made for.
    """
    given, wanted = 0 if next_covariates is None else next_covariates.shape[-1], len(scale.mean)
    if given != wanted:
        raise InputError(f"the network was made for {wanted} covariates, and is given {given}.")
    if next_covariates is None:
        return values
    scaled = scale(next_covariates.to(values), ())[0]
    return torch.cat([values, scaled.nan_to_num(0.0)], -1)

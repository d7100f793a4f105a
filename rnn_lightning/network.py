"""The recurrent network: fused recurrent layers, a linear readout, and transforms."""

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from rnn_lightning.chain import Transforms
from rnn_lightning.errors import InputError
from rnn_lightning.recurrent import RecurrentState, recur
from rnn_lightning.scales import Standardize

Cell = Literal["rnn_tanh", "rnn_relu", "gru", "lstm"]


class RecurrentNetwork(nn.Module):
    """Predicts the next values, from the present ones, the next covariates and the state.

    ``forward`` knows nothing of the units of the data; ``transforms`` leads there and back. ``recurrence.py``
    has the formulas of the cells.

    Args:
        num_features: number of features.
        cell: kind of recurrent cell.
        hidden_size: hidden units of each layer.
        num_layers: number of recurrent layers.
        dropout: probability of dropout between recurrent layers.
        transforms: names of the transforms, see ``Transforms``.
        num_covariates: number of covariates.
    """

    residual_covariance: Tensor

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
        for name, count in (
            ("num_features", num_features),
            ("hidden_size", hidden_size),
            ("num_layers", num_layers),
        ):
            if count < 1:
                raise InputError(f"`{name}` must be at least 1, got {count}.")
        if not 0 <= dropout < 1:
            raise InputError(f"`dropout` must be at least 0 and below 1, got {dropout}.")
        if dropout > 0 and num_layers == 1:
            raise InputError(f"`dropout` {dropout} acts between layers: raise `num_layers` 1 or drop it.")
        if cell not in get_args(Cell):
            raise InputError(f"`cell`: unknown cell {cell!r}; there are {', '.join(get_args(Cell))}.")
        if num_covariates < 0:
            raise InputError(f"`num_covariates` must not be negative, got {num_covariates}.")
        self.cell, self.num_features, self.num_covariates = cell, num_features, num_covariates
        self.transforms = Transforms(transforms, num_features)
        self.covariate_scale = Standardize(num_covariates)
        sizes = {"num_layers": num_layers, "dropout": dropout, "batch_first": True}
        num_inputs = num_features + num_covariates
        if cell == "lstm":
            self.recurrent: nn.RNNBase = nn.LSTM(num_inputs, hidden_size, **sizes)
        elif cell == "gru":
            self.recurrent = nn.GRU(num_inputs, hidden_size, **sizes)
        else:
            self.recurrent = nn.RNN(num_inputs, hidden_size, nonlinearity=cell.removeprefix("rnn_"), **sizes)
        self.readout = nn.Linear(hidden_size, num_features)
        self.register_buffer("residual_covariance", torch.full((num_features, num_features), torch.nan))

    def initial_state(self, batch_size: int) -> RecurrentState:
        """The zero state every context starts from."""
        shape = (self.recurrent.num_layers, batch_size, self.recurrent.hidden_size)
        zeros = self.readout.weight.new_zeros(shape)
        return (zeros, zeros) if self.cell == "lstm" else (zeros,)

    def forward(
        self, inputs: Tensor, state: RecurrentState | None = None, first: int = 0
    ) -> tuple[Tensor, RecurrentState]:
        """One step ahead of every input.

        Args:
            inputs: ``(batch, time, feature + covariate)``, see ``join``.
            state: the state before the first input, zero if None.
            first: the first input whose next values are wanted.

        Returns:
            The predicted next values ``(batch, time, feature)`` from ``first`` on, and the state after the
            last input.
        """
        return recur(self.recurrent, inputs, state, self.readout, first)

    def join(self, values: Tensor, following: Tensor | None) -> Tensor:
        """The inputs ``(batch, time, feature + covariate)``.

        Args:
            values: ``(batch, time, feature)`` in transformed units.
            following: ``(batch, time, covariate)``, the covariates of the step after each value, the one that
                is predicted from it, in their own units; NaN, where they are not known, counts as their mean.
                None without covariates.

        Raises:
            InputError: if there are other covariates than those the network was made for.
        """
        return join(values, following, self.covariate_scale)


def join(values: Tensor, following: Tensor | None, scale: Standardize) -> Tensor:
    """Values and, scaled, the covariates of the step after each, see ``RecurrentNetwork.join``."""
    given, wanted = 0 if following is None else following.shape[-1], len(scale.mean)
    if given != wanted:
        raise InputError(f"the network was made for {wanted} covariates, and is given {given}.")
    if following is None:
        return values
    scaled = scale(following.to(values), ())[0]
    return torch.cat([values, scaled.nan_to_num(0.0)], -1)

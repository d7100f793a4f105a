"""How well a network generates on its own: what the solver chooses by."""

import warnings
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rnn_lightning.data.windows import ForecastBatch, forecast_batch, forecast_starts
from rnn_lightning.network import Network
from rnn_lightning.rollout import rollout

NUM_FORECASTS, LONG_RUN, NUM_LONG_RUNS = 64, 1000, 8


class Score(NamedTuple):
    """The quality of a free run; the smaller one, compared in this order, is better.

    Attributes:
        leaves: whether a long free run leaves the range of the data.
        error: the mean logarithm of the error of the free run, in standard deviations.
        valid_steps: the median of the steps until the error exceeds 0.4 standard deviations, negative.
    """

    leaves: bool
    error: float
    valid_steps: float


class FreeRunScore:
    """Scores networks by forecasts that start all over the validation split.

    The mean *logarithm* of the error ranks closed loops: of a chaotic system it is the quality of the
    one-step map, however long the forecast; the mean of squares is about steps at which every forecast fails.

    Args:
        data: the data module, which has validation data.
    """

    def __init__(self, data: Any) -> None:
        segments, horizon = data.segments["val"], data.horizon_of("val")
        last = torch.maximum(segments.end - horizon, segments.start) + 1  # forecasts that end in the split
        every = forecast_starts(segments._replace(end=last), data.context_length, horizon, 1)
        items = torch.linspace(0, len(every) - 1, min(NUM_FORECASTS, len(every))).round().long()
        settings = (data.context_length, horizon, None, 0)
        self.batch: ForecastBatch = forecast_batch(data.data, segments, every, *settings, items)
        known = self.batch.context.double()
        low, high = known.nan_to_num(torch.inf).amin((0, 1)), known.nan_to_num(-torch.inf).amax((0, 1))
        for chunk in data.train_series():
            low = torch.minimum(low, chunk.double().nan_to_num(torch.inf).amin(0))
            high = torch.maximum(high, chunk.double().nan_to_num(-torch.inf).amax(0))
        margin = 0.1 * (high - low)
        self.low, self.high = low - margin, high + margin

    @torch.no_grad()
    def __call__(self, network: Network) -> Score:
        """Return the score of a network."""
        device = network.readout.weight.device
        batch = self.batch.to(device)
        known: dict[str, Any] = {"covariates": batch.covariates, "traits": batch.traits}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            generated = rollout(network, batch.context, batch.horizon, **known)
            errors = (generated.double() - batch.target) / batch.scale[:, None]  # (batch, horizon, feature)
            unknown = batch.target.isnan()
            squares = errors.square().nan_to_num(1e4, posinf=1e4).clamp(1e-16, 1e4)
            squares = squares.masked_fill(unknown, 0.0).sum(-1) / (~unknown).sum(-1)  # NaN if none is known
            error = float(0.5 * squares.log().nanmean())
            is_valid = ~(squares > 0.16)
            valid = torch.where(is_valid.all(1), squares.shape[1], is_valid.int().argmin(1))
            return Score(self._leaves(network, batch), error, -float(valid.double().median()))

    def _leaves(self, network: Network, batch: ForecastBatch) -> bool:
        """Return whether long free runs leave the range of the data, which those of differences may."""
        if network.num_covariates or network.transforms.num_lost:
            return False
        rows = torch.linspace(0, len(batch.context) - 1, NUM_LONG_RUNS).round().long()
        traits = {name: trait[rows] for name, trait in batch.traits.items()}
        path: Tensor = rollout(network, batch.context[rows], LONG_RUN, traits=traits).double()
        inside = (path >= self.low.to(path)) & (path <= self.high.to(path))
        return not bool(inside.all())

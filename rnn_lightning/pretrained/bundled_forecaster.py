"""The bundled network as a forecaster without Lightning, for series that nothing was fitted to."""

from typing import Any, Literal

import torch
from torch import Tensor

from rnn_lightning.data.windows import ForecastBatch, WindowBatch
from rnn_lightning.errors import InputError
from rnn_lightning.losses import TrainingWindows, training_windows
from rnn_lightning.pretrained.bundled import bundled_network
from rnn_lightning.pretrained.season_batches import (
    forecast_batch_by_season,
    scaled_one_step_errors,
    uses_hold_outs,
)
from rnn_lightning.pretrained.season_forecast import steps_wanted
from rnn_lightning.rollout import Forecast
from rnn_lightning.transforms import Traits


class BundledForecaster:
    """What ``PretrainedForecaster`` forecasts before any fit, in plain PyTorch on the CPU.

    Args:
        point: see ``PretrainedForecaster``.
    """

    is_trained = False
    device = torch.device("cpu")
    data_facts: dict[str, Any] = {}

    def __init__(self, point: Literal["median", "mean"] = "median") -> None:
        if point not in ("median", "mean"):
            raise InputError(f"`point` must be median or mean, got {point!r}.")
        self.point, self.num_series, self.network = point, 0, bundled_network().eval()

    def take_sizes(self, data: Any) -> None:
        """Make the network for the features and covariates of batches, see ``SequenceBatches``."""
        sizes = data.num_features, data.num_covariates
        self.num_series = data.data.num_series
        if sizes != (self.network.num_features, self.network.num_covariates):
            self.network = bundled_network(*sizes).eval()

    def context_wanted(self, traits: Traits, horizon: int) -> int:
        """Return how many last steps of series with these traits a forecast looks at."""
        return steps_wanted(traits, horizon)

    def training_windows(self, batch: WindowBatch) -> TrainingWindows:
        """Transform windows."""
        return training_windows(self.network, **batch._asdict())

    def one_step_errors(self, windows: TrainingWindows) -> Tensor:
        """Return the next-step errors ``(batch, scored, feature)`` in units of the noise of the network."""
        return scaled_one_step_errors(self.network, windows)

    def predict_step(self, batch: ForecastBatch, batch_idx: int) -> Forecast:
        """Forecast a batch of series with the trait ``seasons``."""
        hold_outs = uses_hold_outs("auto", max(len(batch.context), self.num_series))
        return forecast_batch_by_season(self.network, batch, hold_outs, self.point == "mean")

"""The callback that calibrates prediction intervals, and keeps them in checkpoints."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import torch
from lightning.pytorch.trainer.states import TrainerFn

from rnn_lightning.evaluation.baselines import ends_before
from rnn_lightning.evaluation.calibrated_intervals import CalibratedIntervals, calibration_sizes, is_trained


class PredictionIntervals(CalibratedIntervals, L.Callback):
    """Give forecasts prediction intervals, as wide as the errors of earlier forecasts demand.

    Each validation calibrates them on the held-out values, unless the network was trained on these too, and
    checkpoints keep the result. A network that was never trained is calibrated on the last steps of the
    series before each test or forecast, and for that alone. This callback comes before those that ask it for
    intervals. See ``CalibratedIntervals``.
    """

    @classmethod
    def from_checkpoint(cls, path: str | Path) -> "PredictionIntervals":
        """Return the intervals that a checkpoint keeps; they are not ``calibrated`` if it keeps none."""
        return cls.from_states(torch.load(path, map_location="cpu", weights_only=True).get("callbacks", {}))

    @classmethod
    def from_states(cls, states: Mapping[str, Any]) -> "PredictionIntervals":
        """Return the intervals among the states of callbacks that a checkpoint keeps."""
        intervals = cls()
        intervals.load_state_dict(states.get(intervals.state_key, {}))
        return intervals

    @classmethod
    def of(cls, forecaster: Any) -> "PredictionIntervals":
        """Return the intervals of ``fit_frame``, or of the checkpoint that a network was loaded from."""
        return getattr(forecaster, "intervals", None) or cls.from_states(
            getattr(forecaster, "callback_states", {})
        )

    def state_dict(self) -> dict[str, Any]:
        """Return what validations have taught; what is true of one table alone is not kept."""
        if not self.calibrated or self._is_temporary:
            return {}
        state = {"half_widths": self._half_widths, "horizon": self.horizon}
        facts = {"nonnegative": self._nonnegative, "relative": self._relative}
        return {**state, **facts, "season": self._season}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._reset()
        if state_dict:
            self._half_widths, self.horizon = state_dict["half_widths"], int(state_dict["horizon"])
            self._season, self._nonnegative = int(state_dict["season"]), state_dict["nonnegative"]
            self._relative = state_dict["relative"]

    def on_load_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Forget the intervals of another network; ``load_state_dict`` follows if the checkpoint has some."""
        self._reset()

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        datamodule: Any = getattr(trainer, "datamodule", None)
        is_held_out = not (trainer.sanity_checking or getattr(pl_module, "has_seen_validation", False))
        if hasattr(datamodule, "segments") and is_trained(pl_module) and is_held_out:
            sizes = calibration_sizes(datamodule)
            self.calibrate(pl_module, datamodule.data, datamodule.segments["val"], **sizes)
            self._is_temporary = False

    def on_test_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        datamodule: Any = getattr(trainer, "datamodule", None)
        if hasattr(datamodule, "segments") and not is_trained(pl_module):
            data, is_test = datamodule.data, trainer.state.fn == TrainerFn.TESTING
            ends = ends_before(data, datamodule.segments["test"]) if is_test else data.ends
            self.calibrate_for(pl_module, datamodule, ends)

    on_predict_start = on_test_start

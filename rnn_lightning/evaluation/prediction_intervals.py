"""The callback that calibrates prediction intervals, and keeps them in checkpoints."""

from pathlib import Path
from typing import Any

import lightning.pytorch as L
import torch
from lightning.pytorch.trainer.states import TrainerFn

from rnn_lightning.evaluation.baselines import ends_before
from rnn_lightning.evaluation.calibrated_intervals import CalibratedIntervals, calibration_sizes, is_trained


class PredictionIntervals(CalibratedIntervals, L.Callback):
    """Give forecasts prediction intervals, as wide as the errors of earlier forecasts demand.

    Each validation calibrates them on the held-out values, and checkpoints keep the result. A network that
    was never trained is calibrated on the last steps of the series before each test or forecast, and for that
    alone. This callback comes before those that ask it for intervals. See ``CalibratedIntervals``.
    """

    @classmethod
    def from_checkpoint(cls, path: str | Path) -> "PredictionIntervals":
        """Return the intervals that a checkpoint keeps; they are not ``calibrated`` if it keeps none."""
        intervals = cls()
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        intervals.load_state_dict(checkpoint.get("callbacks", {}).get(intervals.state_key, {}))
        return intervals

    def state_dict(self) -> dict[str, Any]:
        """Return what validations have taught; what is true of one table alone is not kept."""
        if not self.calibrated or self._is_temporary:
            return {}
        state = {"half_widths": self._half_widths, "horizon": self.horizon}
        return state | {"season": self._season, "nonnegative": self._nonnegative}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._reset()
        if state_dict:
            self._half_widths, self.horizon = state_dict["half_widths"], int(state_dict["horizon"])
            self._season, self._nonnegative = int(state_dict["season"]), state_dict["nonnegative"]

    def on_load_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Forget the intervals of another network; ``load_state_dict`` follows if the checkpoint has some."""
        self._reset()

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        datamodule: Any = getattr(trainer, "datamodule", None)
        if hasattr(datamodule, "segments") and is_trained(pl_module) and not trainer.sanity_checking:
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

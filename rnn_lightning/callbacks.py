"""What the Trainer is equipped with: forecasts to a file and a picture, a stop at NaN, checkpoints that are whole."""

import contextlib
import math
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import numpy as np
import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.callbacks import ModelCheckpoint, TQDMProgressBar
from torch import Tensor

from rnn_lightning.datamodule import SequenceDataModule
from rnn_lightning.errors import InputError
from rnn_lightning.forecaster import Forecast
from rnn_lightning.series import SeriesData

NUM_PANELS = 4
"""Number of series in a forecast picture."""


class ForecastWriter(L.Callback):
    """Writes ``forecast.csv`` and ``forecast.png`` into the folder of the run.

    The table has the columns of the input, so that it can be appended to the history, and the ends of the intervals where
    paths were sampled: ``<feature>-lo-80``, ``<feature>-hi-80``. Every device writes the rows of its own series into one
    scratch file on a disk that all share; the first turns it into the table when all have finished.

    Args:
        levels: levels of the intervals in percent; they need ``--data.num_samples``.
        plot: draw the picture.
    """

    def __init__(self, levels: list[int] = [80], plot: bool = True) -> None:  # noqa: B006
        super().__init__()
        for level in levels:
            if not 0 < level < 100:
                raise InputError(f"--forecast.levels must be between 0 and 100 percent, got {level}.")
        self.levels, self.plot = sorted(levels), plot

    def on_predict_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        datamodule = _sequence_datamodule(trainer)
        data, num_samples = datamodule.data, datamodule.num_samples
        self.folder = Path(trainer.log_dir or trainer.default_root_dir)
        bounds = [f"-{end}-{level}" for level in self.levels for end in ("lo", "hi")] if num_samples is not None else []
        self.columns = [feature + bound for feature in data.features for bound in ["", *bounds]]
        self.quantiles = [0.5 + sign * level / 200 for level in self.levels for sign in (-1, 1)] if bounds else []
        shape = (data.num_series, datamodule.horizon, len(data.features), 1 + len(bounds))
        self.scratch = self.folder / ".forecast.npy"
        if trainer.is_global_zero:
            self.folder.mkdir(parents=True, exist_ok=True)
            np.lib.format.open_memmap(self.scratch, "w+", np.float32, shape).flush()
        trainer.strategy.barrier("scratch file made")
        self.table = np.lib.format.open_memmap(self.scratch, "r+")

    def on_predict_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Forecast,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self.table[outputs.series_index.cpu().numpy()] = self._values(outputs).cpu().numpy()

    def _values(self, forecast: Forecast) -> Tensor:
        """The point forecast and the ends of the intervals, ``(batch, horizon, feature, column)``."""
        values = forecast.point[None]
        if forecast.samples is not None:
            levels = torch.tensor(self.quantiles, device=values.device, dtype=values.dtype)
            values = torch.cat([values, torch.quantile(forecast.samples, levels, dim=0)])
        return values.movedim(0, -1)

    def on_predict_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.table.flush()
        trainer.strategy.barrier("forecasts written")
        if not trainer.is_global_zero:
            return
        data = _sequence_datamodule(trainer).data
        written = [self.folder / "forecast.csv"]
        write_table(written[0], data, self.table, self.columns)
        if self.plot:
            written.append(self.folder / "forecast.png")
            self._draw(written[1], data)
        del self.table
        self.scratch.unlink()
        print("Forecast: " + ", ".join(str(path) for path in written))

    def _draw(self, path: Path, data: SeriesData) -> None:
        from rnn_lightning.plots import Panel, plot_forecast

        horizon = self.table.shape[1]
        panels = []
        for index in range(min(NUM_PANELS, data.num_series)):
            length = int(data.lengths[index])
            shown = min(length, max(2 * horizon, 100))
            values = self.table[index]
            panels.append(
                Panel(
                    title=data.ids[index] if data.num_series > 1 else "",
                    past=data.times.stamps(index, length - shown, shown),
                    history=data.series(index)[-shown:].numpy(),
                    future=data.times.stamps(index, length, horizon),
                    forecast=values[..., 0],
                    band=np.moveaxis(values[..., 1:3], -1, 0) if self.quantiles else None,
                )
            )
        level = self.levels[0] if self.quantiles else None
        plot_forecast(panels, data.features, data.time_column, level).savefig(path)


def write_table(path: Path, data: SeriesData, table: np.ndarray, columns: Sequence[str]) -> None:
    """Write ``(series, horizon, feature, column)`` forecasts as CSV, some series at a time, whole or not at all."""
    import polars as pl

    num_series, horizon = table.shape[:2]
    at_once = max(1, 1_000_000 // horizon)
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("wb") as file:
        for first in range(0, num_series, at_once):
            chosen = range(first, min(first + at_once, num_series))
            frame: dict[str, Any] = {}
            if data.id_column is not None:
                frame[data.id_column] = [data.ids[index] for index in chosen for _ in range(horizon)]
            stamps = [data.times.stamps(index, int(data.lengths[index]), horizon) for index in chosen]
            frame[data.time_column] = [stamp for of_series in stamps for stamp in of_series]
            values = table[chosen.start : chosen.stop].reshape(-1, len(columns))
            frame |= {name: values[:, column] for column, name in enumerate(columns)}
            pl.DataFrame(frame).write_csv(file, include_header=first == 0)
    os.replace(temporary, path)


class StopAtNonFiniteLoss(L.Callback):
    """Stops a fit whose loss is NaN or infinite, before it reaches the weights and the checkpoints."""

    def on_before_backward(self, trainer: L.Trainer, pl_module: L.LightningModule, loss: Tensor) -> None:
        # On a GPU, reading the loss waits for it: look only when it is logged.
        if loss.is_cuda and (trainer.global_step + 1) % trainer.log_every_n_steps:  # type: ignore[attr-defined]
            return
        if not math.isfinite(loss.item()):
            raise InputError(
                f"the loss is {loss.item()} at step {trainer.global_step}: training has diverged. Lower "
                "--model.learning_rate, keep --trainer.gradient_clip_val at 1 or below, or look for extreme values in the "
                "data. The best checkpoint so far is kept."
            )


class BestCheckpoint(ModelCheckpoint):
    """Keeps the latest weights whose free-running error on the validation split is not clearly above the lowest so far.

    Not clearly: within one standard error of it (Breiman et al., *Classification and Regression Trees*, 1984). The error of
    a short and noisy validation split ranks the networks of a fit by luck, and later ones have been trained longer.
    """

    def __init__(self) -> None:
        super().__init__(filename="best", monitor="val_rollout_rmse", enable_version_counter=False)
        self.lowest = self.limit = math.inf

    def check_monitor_top_k(self, trainer: L.Trainer, current: Tensor | None = None) -> bool:
        if current is None or not bool(current.isfinite()):
            return False
        value = float(current)
        if value < self.lowest:
            self.lowest, self.limit = value, value + float(trainer.callback_metrics["val_rollout_rmse_error"])
        return value <= self.limit

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "lowest": self.lowest, "limit": self.limit}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.lowest, self.limit = state_dict["lowest"], state_dict["limit"]
        super().load_state_dict(state_dict)


class ProgressBar(TQDMProgressBar):
    """Lightning's bar with the losses, without the number of the run."""

    def __init__(self) -> None:
        super().__init__(refresh_rate=20)

    def get_metrics(self, trainer: L.Trainer, pl_module: L.LightningModule) -> dict[str, Any]:
        return {name: value for name, value in super().get_metrics(trainer, pl_module).items() if name != "v_num"}


class WholeCheckpoints(TorchCheckpointIO):
    """Writes a checkpoint beside its final name and renames it, so that a kill or a full disk leaves the old one."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(temporary, 0o644)
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise


def _sequence_datamodule(trainer: L.Trainer) -> SequenceDataModule:
    datamodule: Any = getattr(trainer, "datamodule", None)
    if not isinstance(datamodule, SequenceDataModule):
        raise InputError("ForecastWriter needs predict to be given a SequenceDataModule.")
    return datamodule

"""What the Trainer is equipped with: forecasts to a file and a picture, a stop at SIGTERM, whole checkpoints."""

import contextlib
import math
import os
import signal
import tempfile
import threading
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import numpy as np
import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.callbacks import ModelCheckpoint, TQDMProgressBar
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torch import Tensor

from rnn_lightning.datamodule import SequenceDataModule
from rnn_lightning.errors import InputError
from rnn_lightning.forecast_file import ForecastTable, write_table
from rnn_lightning.forecaster import Forecast
from rnn_lightning.series import SeriesData

NUM_PANELS = 4
"""Number of series in a forecast picture."""

SIGTERM_BATCHES = 10
"""Several processes ask each other every so many batches whether to stop: asking costs 0.3 ms."""


class ForecastWriter(L.Callback):
    """Writes ``forecast.csv`` and ``forecast.png`` into the folder of the run.

    The table has the columns of the input, so that it can be appended to the history, and the ends of the intervals where
    paths were sampled: ``<feature>-lo-80``, ``<feature>-hi-80``. Every device writes its own series into a scratch file of
    its own in the folder of the run; the first device turns them into the table when all have finished.

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
        if num_samples is None and self.levels != [80]:
            raise InputError(f"--forecast.levels {self.levels} are those of sampled paths: give --data.num_samples as well.")
        self.folder = Path(trainer.log_dir or trainer.default_root_dir)
        bounds = [f"-{end}-{level}" for level in self.levels for end in ("lo", "hi")] if num_samples is not None else []
        self.columns = [feature + bound for feature in data.features for bound in ["", *bounds]]
        self.quantiles = [0.5 + sign * level / 200 for level in self.levels for sign in (-1, 1)] if bounds else []
        num_mine = len(range(trainer.global_rank, data.num_series, trainer.world_size))
        shape = (num_mine, datamodule.horizon, len(data.features), 1 + len(bounds))
        self.folder.mkdir(parents=True, exist_ok=True)
        self.scratch = [self.folder / f".forecast-{rank}.npy" for rank in range(trainer.world_size)]
        # A file for each device: machines that write into the same block of a file on a network disk lose rows.
        self.share = np.lib.format.open_memmap(self.scratch[trainer.global_rank], "w+", np.float32, shape)
        self.share[:] = np.nan
        self.parent = os.getppid()

    def on_predict_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Forecast,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if trainer.local_rank > 0 and os.getppid() != self.parent:
            raise RuntimeError("the process that started this one has ended: no one is left to put the forecasts together.")
        # Series i is the row i // world_size of device i % world_size, see BatchLoader.
        self.share[outputs.series_index.cpu().numpy() // trainer.world_size] = self._values(outputs)

    def _values(self, forecast: Forecast) -> np.ndarray:
        """The point forecast and the ends of the intervals, ``(batch, horizon, feature, column)``."""
        values = forecast.point[None].cpu().numpy()
        if forecast.samples is not None:
            # Not torch.quantile, which takes 16 million numbers at most.
            bounds = np.quantile(forecast.samples.cpu().numpy(), self.quantiles, axis=0)
            values = np.concatenate([values, bounds])
        return np.moveaxis(values, 0, -1)

    def on_predict_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.share.flush()
        del self.share
        trainer.strategy.barrier("forecasts written")
        if not trainer.is_global_zero:
            return
        data = _sequence_datamodule(trainer).data
        table = ForecastTable(self.scratch)
        written = [self.folder / "forecast.csv"]
        write_table(written[0], data, table, self.columns)
        for path in self.scratch:
            path.unlink()  # the table has them open
        if self.plot:
            written.append(self.folder / "forecast.png")
            self._draw(written[1], data, table)
        print("Forecast: " + ", ".join(str(path) for path in written))

    def _draw(self, path: Path, data: SeriesData, table: ForecastTable) -> None:
        from rnn_lightning.plots import Panel, plot_forecast

        horizon = table.horizon
        panels = []
        for index in range(min(NUM_PANELS, data.num_series)):
            length = int(data.lengths[index])
            shown = min(length, max(2 * horizon, 100))
            values = table.rows(index, index + 1)[0]
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


class StopAtSigterm(L.Callback):
    """Ends a fit soon after any of its processes is sent SIGTERM, as schedulers do before they take a machine.

    All processes leave after the same batch, so that a checkpoint can be written. Lightning's own handler, which this one
    replaces during the fit, calls the other processes from within the signal handler and can wait for them for ever.
    """

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.asked = False
        # A group of its own on the CPU: a GPU need not be waited for.
        self.group = torch.distributed.new_group(backend="gloo") if trainer.world_size > 1 else None
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._ask)

    def _ask(self, *_: Any) -> None:
        self.asked = True

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self.group is None:
            stop = self.asked
        elif batch_idx % SIGTERM_BATCHES == 0:
            num_asked = torch.tensor(int(self.asked))
            torch.distributed.all_reduce(num_asked, group=self.group)
            stop = int(num_asked) > 0
        else:
            stop = False
        if stop:
            raise SIGTERMException


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


class LastCheckpoint(ModelCheckpoint):
    """Keeps the newest state: of the last epoch, or of the step at which a fit was interrupted.

    Not ``save_last`` of the above, which is the last one that was a best one.
    """

    def __init__(self) -> None:
        super().__init__(filename="last", save_on_train_epoch_end=True, enable_version_counter=False)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        self.save_on_exception = True  # not earlier: a fit that fails to resume has no optimizer state to save


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

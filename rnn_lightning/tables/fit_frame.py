"""Fits to tables in memory."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import lightning.pytorch as L

from rnn_lightning.data.series import GivenSeries, SeriesData
from rnn_lightning.errors import InputError
from rnn_lightning.forecaster import Forecaster
from rnn_lightning.tables.datamodule import TableDataModule
from rnn_lightning.tables.table import table_as_in_fit

if TYPE_CHECKING:
    from rnn_lightning.tables.table import Table

Fitted = TypeVar("Fitted", bound=Forecaster)

EPOCHS_OF_TUNING, EPOCHS = 2, 10
"""Epochs of a fit of the bundled network, two stages of one each, and of any other network."""


def fit_frame(
    forecaster: Fitted,
    frame: "Table | SeriesData",
    horizon: int | Literal["auto"] = "auto",
    *,
    max_epochs: int | None = None,
    val_fraction: float | Literal["auto"] = "auto",
    test_fraction: float = 0.0,
    **options: Any,
) -> Fitted:
    """Fit a network to the series of a table in memory, as the command ``fit`` does.

    The bundled network is fine-tuned in two stages, and stays as it is where validation does not show that
    this helps, see ``FineTuning``; any other network has the weights of its last step. Sizes such as the
    length of the context are chosen by the data; ``TableDataModule`` and a Trainer give all choices.

    Args:
        forecaster: the network, such as ``PretrainedForecaster()``.
        frame: a polars or pandas frame with the columns ``unique_id, ds, y``, a pandas Series, or the path of
            a table; also the series that a backtest cuts off at an origin, see ``backtest``.
        horizon: number of steps to forecast; ``auto`` for what the season suggests.
        max_epochs: number of epochs; by default 2 for the bundled network and 10 for any other.
        val_fraction: fraction of the steps of each series to validate on, see ``TableDataModule``.
        test_fraction: fraction of the steps of each series to keep from the fit.
        options: arguments of ``TableSeries``, such as ``id_column``.

    Returns:
        The forecaster, fitted. ``forecast_frame`` and ``backtest`` find its prediction intervals as its
        attribute ``intervals``.

    Raises:
        InputError: if the table cannot be read, or leaves nothing to train or to validate on; or if the
            forecaster cannot be trained, as ``BundledForecaster()``.
    """
    if not isinstance(forecaster, L.LightningModule):
        raise InputError(
            f"`forecaster`: a {type(forecaster).__name__} cannot be trained: give PretrainedForecaster(), or "
            "Forecaster() for a network from scratch."
        )
    is_tuned = getattr(forecaster, "weights", None) == "bundled"
    names = ("context_length", "scored_length", "batch_size", "num_batches_per_epoch")
    sizes: dict[str, Any] = dict.fromkeys(names, "auto") | {"horizon": horizon}
    fractions: dict[str, Any] = {"val_fraction": val_fraction, "test_fraction": test_fraction}
    series = GivenSeries(frame) if isinstance(frame, SeriesData) else table_as_in_fit({}, frame, options)
    datamodule = TableDataModule(series, **sizes, **fractions)
    callbacks: list[Any] = []
    if find_spec("rnn_lightning.evaluation"):
        from rnn_lightning import PredictionIntervals

        callbacks.append(PredictionIntervals())
        setattr(forecaster, "intervals", callbacks[0])  # noqa: B010
    if is_tuned and val_fraction:
        from rnn_lightning import FineTuning

        callbacks.append(FineTuning())
    settings = {"max_epochs": max_epochs or (EPOCHS_OF_TUNING if is_tuned else EPOCHS)}
    trainer = quiet_trainer(forecaster, callbacks, gradient_clip_val=1.0, num_sanity_val_steps=0, **settings)
    with quiet_lightning():
        trainer.fit(forecaster, datamodule)
    return forecaster


def quiet_trainer(forecaster: Forecaster, callbacks: list[Any], **settings: Any) -> L.Trainer:
    """Return a silent Trainer that writes no files, on the device of the network."""
    names = ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary")
    quiet: dict[str, Any] = dict.fromkeys(names, False)
    accelerator = "cpu" if forecaster.device.type == "cpu" else "auto"
    with quiet_lightning():
        return L.Trainer(accelerator=accelerator, devices=1, callbacks=callbacks, **quiet, **settings)


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Keep what Lightning says of devices, loaders and its own code from the screen."""
    logger = logging.getLogger("lightning.pytorch.utilities.rank_zero")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", r"`isinstance\(treespec, LeafSpec\)` is deprecated")
            warnings.filterwarnings("ignore", "Total length of `list` across ranks is zero")
            yield
    finally:
        logger.setLevel(level)

"""Fits within a command: a new network of the same options, fitted to other series."""

import tempfile
from typing import Any

import lightning.pytorch as L
import torch
from lightning.pytorch.callbacks import Callback

import rnn_lightning
from rnn_lightning.cli.callbacks import BestCheckpoint
from rnn_lightning.data.series import GivenSeries, SeriesData
from rnn_lightning.forecaster import Forecaster


def refit(command_line: Any, data: SeriesData) -> Forecaster:
    """Return a network of the class and the options of a command, fitted to series, in evaluation mode.

    Nothing is held out but for validation, and the weights are those that validate best, as with ``fit``.

    Args:
        command_line: the command.
        data: the series.

    Returns:
        The network, with its prediction intervals as its attribute ``intervals``.
    """
    from rnn_lightning.evaluation.prediction_intervals import PredictionIntervals

    config = command_line.config
    L.seed_everything(config.seed_everything, verbose=False)
    fresh = command_line.parser.instantiate_classes(config)
    network, datamodule = fresh.model, fresh.data
    datamodule.series, datamodule.test_fraction = GivenSeries(data), 0.0
    intervals, best = PredictionIntervals(), BestCheckpoint()
    is_tuned = getattr(network, "weights", None) == "bundled"
    validating: list[Callback] = [rnn_lightning.FineTuning() if is_tuned else best]
    given = fresh.trainer.callbacks or []
    given = given if isinstance(given, list) else [given]
    with tempfile.TemporaryDirectory(prefix="rnn-lightning-") as folder:
        settings = vars(fresh.trainer) | {"default_root_dir": folder, "logger": False}
        settings["callbacks"] = [*given, intervals, *(validating if datamodule.val_fraction > 0 else [])]
        trainer = L.Trainer(**settings | {"enable_progress_bar": False, "enable_checkpointing": True})
        trainer.fit(network, datamodule)
        if best.best_model_path:
            checkpoint = torch.load(best.best_model_path, map_location="cpu", weights_only=True)
            network.load_state_dict(checkpoint["state_dict"])
            intervals.load_state_dict(checkpoint["callbacks"].get(intervals.state_key, {}))
    setattr(network, "intervals", intervals)  # noqa: B010
    return network.eval()

"""The checkpoints of a fit, and the plain forecast file."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from rnn_lightning import RandomSeries, SequenceDataModule
from rnn_lightning.cli.callbacks import BestCheckpoint
from rnn_lightning.cli.csv_writer import CsvOptions, CsvWriter


def kept(errors: list[float], standard_error: float) -> list[float]:
    """Which of the errors of the epochs of a fit, one after the other, are kept as the best."""
    callback = BestCheckpoint()
    trainer: Any = SimpleNamespace(
        callback_metrics={"val_rollout_nrmse_error": torch.tensor(standard_error)}, lightning_module=None
    )
    return [error for error in errors if callback.check_monitor_top_k(trainer, torch.tensor(error))]


def test_the_best_checkpoint_is_the_latest_within_one_standard_error_of_the_lowest() -> None:
    errors = [0.5, 0.3, 0.35, 0.45, 0.38, 0.41]
    assert kept(errors, 0.1) == [0.5, 0.3, 0.35, 0.38]
    assert kept(errors, 0.0) == [0.5, 0.3]
    assert kept(errors, 1.0) == errors
    # The limit is that of the lowest error, not of the one kept last.
    assert kept([0.3, 0.39, 0.45], 0.1) == [0.3, 0.39]


def test_an_error_that_is_no_number_is_never_the_best() -> None:
    assert kept([float("nan"), 0.5, float("inf"), float("nan")], 10.0) == [0.5]


@pytest.mark.parametrize("output", [None, "out.csv", "-"])
def test_the_plain_file_has_every_series_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], output: str | None
) -> None:
    monkeypatch.chdir(tmp_path)
    datamodule = SequenceDataModule(RandomSeries(num_series=3, num_steps=10, num_features=2), horizon=2)
    datamodule.setup("predict")
    trainer: Any = SimpleNamespace(
        datamodule=datamodule, world_size=1, log_dir=None, default_root_dir=str(tmp_path), is_global_zero=True
    )
    writer, module = CsvWriter(CsvOptions(output)), SimpleNamespace()
    writer.on_predict_start(trainer, module)  # type: ignore[arg-type]
    points = torch.arange(12.0).reshape(3, 2, 2)
    for indices in ([2], [0, 1]):
        forecast = SimpleNamespace(series_index=torch.tensor(indices), point=points[indices])
        writer.on_predict_batch_end(trainer, module, forecast, None, 0)  # type: ignore[arg-type]
    writer.on_predict_end(trainer, module)  # type: ignore[arg-type]
    text = capfd.readouterr().out if output == "-" else Path(output or "forecast.csv").read_text()
    assert text.splitlines() == [
        "unique_id,ds,y0,y1",
        *("0,10,0.0,1.0", "0,11,2.0,3.0", "1,10,4.0,5.0"),
        *("1,11,6.0,7.0", "2,10,8.0,9.0", "2,11,10.0,11.0"),
    ]

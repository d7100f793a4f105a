from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonargparse
import polars as pl
import pytest
import torch
import yaml

from rnn_lightning import Forecaster, PretrainedForecaster, VariableProjectionForecaster
from rnn_lightning.pretrained.bundled import bundled_network

CONFIGS = Path(__file__).parents[2] / "configs"
NAMES = sorted(path.stem for path in CONFIGS.glob("*.yaml") if path.stem != "pretrain")
SOLVED = ("--trainer.max_epochs=8", "--model.iterations=1", "--data.series.num_steps=3000")
SHORT = ("--trainer.max_epochs=1", "--data.num_batches_per_epoch=20", "--trainer.log_every_n_steps=10")


def check_linear() -> None:
    """It goes on 6, 7, 8."""
    forecaster = Forecaster.load_from_checkpoint("runs/linear/fit_0/checkpoints/best.ckpt")
    forecast = forecaster.forecast(torch.arange(1.0, 6.0), 1000)
    assert float(forecast[0]) == pytest.approx(6, abs=0.1)
    assert float(forecast[999]) == pytest.approx(1005, rel=0.01)
    steep = forecaster.forecast(-300 + 25 * torch.arange(5.0), 1000)
    assert float(steep[999]) == pytest.approx(-300 + 25 * 1004, rel=0.01)


def check_random() -> None:
    """On its held-out series it has the error of the mean: 1/12, within 5 % and the error of 7,200 values."""
    metrics = pl.read_csv("runs/random/test_0/metrics.csv")
    assert 0.97 < 12 * metrics["test_rmse"][0] ** 2 < 1.05


AS_THEY_ARE = {"linear": check_linear, "random": check_random}
"""Configs that take seconds, and what they must show."""


@pytest.mark.renders
@pytest.mark.parametrize("name", NAMES)
def test_a_config_serves_fit_test_and_predict(
    rnn_lightning: Callable[..., None], capsys: pytest.CaptureFixture[str], name: str
) -> None:
    config = f"configs/{name}.yaml"
    settings = yaml.safe_load(Path(config).read_text())
    short = SOLVED if "solver" in settings["model"] else () if name in AS_THEY_ARE else SHORT
    for command in ("fit", "test", "predict"):
        rnn_lightning(command, f"--config={config}", *(short if command == "fit" else ()))
    said = capsys.readouterr().out
    assert "MASE" in said
    table = pl.read_csv(f"runs/{name}/predict_0/forecast.csv")
    id_column = settings["data"]["series"]["init_args"].get("id_column", "unique_id")
    num_series = table[id_column].n_unique() if id_column in table.columns else 1
    assert len(table) == settings["data"]["horizon"] * num_series
    assert not any(
        table[column].is_null().any() or table[column].is_nan().any() for column in table.columns[2:]
    )
    checkpoint = f"runs/{name}/fit_0/checkpoints/best.ckpt"
    assert torch.serialization.get_unsafe_globals_in_checkpoint(checkpoint) == []
    assert Forecaster.load_from_checkpoint(checkpoint).network.cell == settings["model"]["cell"]
    AS_THEY_ARE.get(name, lambda: None)()


@pytest.mark.parametrize("name", NAMES)
def test_a_config_begins_with_its_command_and_says_what_is_special(name: str) -> None:
    text = (CONFIGS / f"{name}.yaml").read_text()
    assert text.startswith(f"# rnn-lightning fit --config configs/{name}.yaml && rnn-lightning ")
    settings: dict[str, Any] = yaml.safe_load(text)
    assert settings["experiment"] == name
    assert set(settings) == {"experiment", "seed_everything", "model", "data", "trainer"}


def test_pretraining_learns_from_series_of_any_season(rnn_lightning: Callable[..., None]) -> None:
    short = ("--data.batch_size=4", "--data.num_batches_per_epoch=20", "--trainer.max_epochs=2")
    rnn_lightning("fit", "--config=configs/pretrain.yaml", *short, "--trainer.log_every_n_steps=20")
    losses = pl.read_csv("runs/pretrain/fit_0/metrics.csv")["train_loss"].drop_nulls()
    assert len(losses) == 2
    assert losses.is_finite().all()
    network = PretrainedForecaster.load_from_checkpoint("runs/pretrain/fit_0/checkpoints/last.ckpt").network
    assert network.state_dict().keys() == bundled_network().state_dict().keys()


def test_every_setting_is_known_to_the_help() -> None:
    """A config cannot name an option that does nothing: every key is an argument of its class."""
    import rnn_lightning
    from rnn_lightning import Series, TableDataModule

    for name in NAMES:
        settings = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())
        parser = jsonargparse.ArgumentParser(exit_on_error=False)
        kind = VariableProjectionForecaster if "solver" in settings["model"] else Forecaster
        parser.add_class_arguments(kind, "model")
        parser.add_class_arguments(TableDataModule, "data")
        parsed = parser.parse_object({"model": settings["model"], "data": settings["data"]})
        assert issubclass(getattr(rnn_lightning, parsed.data.series.class_path.rpartition(".")[2]), Series)

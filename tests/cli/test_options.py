"""Options: each has a help, all are read once, and messages name them as the user typed them."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import polars as pl
import pytest
from lightning.pytorch.strategies import DDPStrategy

import rnn_lightning as package
from rnn_lightning import SequenceDataModule, SineSeries
from rnn_lightning.cli import arguments, checkpoints, choices, main
from rnn_lightning.cli.lightning_cli import Parser
from rnn_lightning.errors import InputError

Call = Callable[..., None]
SHORT = ("--trainer.max_epochs=1", "--data.num_batches_per_epoch=5", "--model.hidden_size=4")
PACKAGE = Path(package.__file__).parent


@pytest.mark.parametrize("command", ["fit", "predict"])
def test_every_option_has_a_help(rnn_lightning: Call, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    parsers: list[Parser] = []

    def keep(self: Parser, *_: Any, **__: Any) -> None:
        parsers.append(self)
        raise SystemExit

    monkeypatch.setattr(Parser, "parse_args", keep)
    with pytest.raises(SystemExit):
        rnn_lightning(command, "--help")
    actions = [action for action in parsers[0]._actions if action.option_strings]
    names = [option for action in actions for option in action.option_strings]
    assert {"--model.cell", "--data.horizon", "--trainer.devices", "--forecast.levels"} <= set(names)
    assert ("--output" in names) == (command == "predict")
    without = [action.option_strings[0] for action in actions if not (action.help or "").strip("? ")]
    assert without == []


def test_the_class_of_a_series_has_a_help(rnn_lightning: Call, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        rnn_lightning("fit", "--data.series.help", "TableSeries")
    assert ended.value.code == 0
    assert "--data.series.time_column" in capsys.readouterr().out


def test_both_doors_name_an_argument_right(rnn_lightning: Call, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError, match=r"^`horizon` must be at least 1, got 0"):
        SequenceDataModule(SineSeries(), horizon=0)
    for option in ("--data.horizon", "--data.series.num_steps", "--model.learning_rate"):
        with pytest.raises(SystemExit):
            rnn_lightning("fit", f"{option}=0")
        assert f"error: {option} must be" in capsys.readouterr().err


def test_no_module_below_the_command_names_options() -> None:
    files = [path for path in PACKAGE.rglob("*.py") if path.parent.name != "cli"]
    option = re.compile(r"--(data|model|trainer|forecast|backtest)\.")
    assert [path.name for path in files if option.search(path.read_text(encoding="utf-8"))] == []


@pytest.mark.parametrize("option", [["--output", "-"], ["--forecast.output", "-"], ["--forecast.output=-"]])
def test_beside_a_table_on_standard_output_nothing_is_printed(
    rnn_lightning: Call, capfd: pytest.CaptureFixture[str], option: list[str]
) -> None:
    rnn_lightning("fit", *SHORT)
    capfd.readouterr()
    rnn_lightning("predict", "--data.horizon=3", *option)
    lines = capfd.readouterr().out.splitlines()
    assert lines[0].startswith("unique_id,ds,y")
    assert len(lines) == 4
    assert [path.name for path in Path("runs/default").iterdir()] == ["fit_0"]


def test_quiet_and_output_may_stand_in_a_config(
    rnn_lightning: Call, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("quiet.yaml").write_text("quiet: true\n")
    rnn_lightning("fit", "--config=quiet.yaml", *SHORT)
    said = capsys.readouterr().out
    assert "columns" not in said
    assert "epoch" not in said
    Path("output.yaml").write_text("output: table.csv\ndata: {horizon: 5}\n")
    rnn_lightning("predict", "--config=output.yaml")
    assert len(pl.read_csv("table.csv")) == 5


def test_a_checkpoint_is_read_once(rnn_lightning: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    rnn_lightning("fit", *SHORT)
    paths: list[Path] = []

    def read(path: Path) -> dict[str, Any]:
        paths.append(path)
        return checkpoints.read_checkpoint(path)

    monkeypatch.setattr(choices, "read_checkpoint", read)
    monkeypatch.setattr(checkpoints, "torch", CountingTorch(paths))
    rnn_lightning("predict", "--data.horizon=3")
    assert [str(path) for path in paths] == ["runs/default/fit_0/checkpoints/best.ckpt", "torch.load"]


class CountingTorch:
    """PyTorch with a ``load`` that is counted."""

    def __init__(self, calls: list[Path]) -> None:
        self.calls = calls

    def __getattr__(self, name: str) -> Any:
        import torch

        if name == "load":
            self.calls.append(Path("torch.load"))
        return getattr(torch, name)


def test_a_run_that_fails_before_it_writes_leaves_no_folder(rnn_lightning: Call) -> None:
    with pytest.raises(SystemExit):
        rnn_lightning("fit", *SHORT, "--trainer.devices=-3")
    assert list(Path("runs/default").iterdir()) == []


@pytest.mark.parametrize(("words", "broadcasts"), [([], False), (["--trainer.strategy=ddp"], True)])
def test_several_devices_do_not_send_equal_buffers(
    rnn_lightning: Call, monkeypatch: pytest.MonkeyPatch, words: list[str], broadcasts: bool
) -> None:
    strategies: list[Any] = []
    monkeypatch.setattr(L.Trainer, "fit", lambda self, *_, **__: strategies.append(self.strategy))
    rnn_lightning("fit", "--trainer.accelerator=cpu", "--trainer.devices=2", *words)
    (strategy,) = strategies
    assert isinstance(strategy, DDPStrategy)
    assert strategy._ddp_kwargs.get("broadcast_buffers", True) == broadcasts


NAMES = [
    "null",
    "~",
    "#1",
    "2019",
    "true",
    "price: EUR",
    "[kWh]",
    "{a}",
    "y,z",
    "'q'",
    'say "hi"',
    "- a",
    " lead",
]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("form", ["{option} {name}", "{option}={name}"])
def test_every_name_of_a_column_can_be_given(tmp_path: Path, name: str, form: str) -> None:
    pl.DataFrame({"ds": [1], name: [2]}).write_csv(tmp_path / "a.csv")
    file = str(tmp_path / "a.csv")
    for option in ("--data.series.target_columns", "--data.series.init_args.covariate_columns"):
        words = [f"{option}={name}"] if "=" in form else [option, name]
        quoted, _ = arguments.quote_columns(words, file)
        assert json.loads(quoted[-1].removeprefix(f"{option}=")) == [name]
    words = [f"--data.series.time_column={name}"] if "=" in form else ["--data.series.time_column", name]
    assert arguments.quote_columns(words, file)[1] == {"time_column": name}
    main.check_file(["fit", file, "--data.series.target_columns", name])


def test_lists_of_names_are_text() -> None:
    words = ["--data.series.target_columns", "[null, 2019, 'a, b', \"[kWh]\"]", "--data.horizon=2"]
    assert arguments.quote_columns(words, None)[0][1:] == ['["null", "2019", "a, b", "[kWh]"]', words[2]]
    words = ["--data.series.target_columns=[Plums 🍑]"]  # jsonargparse does not put escapes together
    assert arguments.quote_columns(words, None)[0] == ['--data.series.target_columns=["Plums 🍑"]']
    assert arguments.quote_columns(["--data.series.target_columns=a"], None)[0][0].endswith('=["a"]')


def test_a_column_named_null_is_forecast(
    rnn_lightning: Call, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pl.DataFrame({"~": range(30), "null": [row % 5 for row in range(30)]}).write_csv(tmp_path / "a.csv")
    names = ("--data.series.time_column", "~", "--data.series.target_columns", "null")
    rnn_lightning("predict", "a.csv", *names, "--data.horizon=2", "--output=b.csv")
    assert pl.read_csv("b.csv").columns[:2] == ["~", "null"]
    Path("c.yaml").write_text(
        "data:\n  series:\n    class_path: TableSeries\n    init_args: {target_columns: null}"
    )
    with pytest.raises(SystemExit):
        rnn_lightning("predict", "a.csv", "--config=c.yaml")
    assert "error: --data.series.target_columns has None, which is no text" in capsys.readouterr().err


def test_an_experiment_that_is_not_there_is_refused(
    rnn_lightning: Call, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A cron job with a typo would get the forecasts of another network."""
    pl.DataFrame({"ds": range(9), "y": range(9)}).write_csv(tmp_path / "a.csv")
    with pytest.raises(SystemExit) as ended:
        rnn_lightning("predict", "a.csv", "--experiment=nope")
    assert ended.value.code == 2
    assert "no best checkpoint in runs/nope/fit_*/checkpoints: run fit" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["accumulate_grad_batches", "check_val_every_n_epoch"])
def test_counts_of_the_trainer_are_refused_by_name(
    rnn_lightning: Call, capsys: pytest.CaptureFixture[str], option: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        rnn_lightning("fit", f"--trainer.{option}=0")
    assert ended.value.code == 2
    assert f"error: --trainer.{option} must be at least 1" in capsys.readouterr().err

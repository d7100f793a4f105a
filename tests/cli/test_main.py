"""What is refused before torch and Lightning are imported."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from rnn_lightning.cli.main import check_file, did_you_mean, short_help
from rnn_lightning.errors import InputError


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("fot sales.csv", "there is no command 'fot'; there are fit, .*Did you mean fit"),
        ("fit sale.csv", r"fit sale\.csv: no such file or folder\. Did you mean sales\.csv"),
        ("fit - --quiet", "fit -: a table is read twice, so not from standard input"),
        (
            "fit sales.csv",
            r"sales\.csv has no columns 'ds', 'y': it has shop, day, sold; name the right ones by "
            r"--data\.series\.time_column, --data\.series\.target_columns",
        ),
        (
            "fit sales.csv --data.series.time_column day --data.series.target_columns=[sold,x]",
            "no column 'x'",
        ),
    ],
)
def test_what_is_not_there_is_refused_at_once(
    words: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("sales.csv").write_text("shop,day,sold\na,2024-01-01,1\n")
    with pytest.raises(InputError, match=message):
        check_file(words.split())


@pytest.mark.parametrize(
    "words",
    [
        "fit sales.csv --data.series.time_column day --data.series.target_columns [sold]",
        "fit sales.csv --data.series.number_rows true --data.series.target_columns [sold]",
        "fit *.csv --trainer.callbacks+=LearningRateMonitor --quiet",
        "predict sales.csv --output -",
        "fit --data.series SineSeries --data.series.noise 0.1 --model my.Forecaster --model.extra 3",
        "export x.onnx",
    ],
)
def test_what_is_there_passes(words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("sales.csv").write_text("shop,day,sold\na,2024-01-01,1\n")
    check_file(words.split())


def test_a_hint_goes_by_the_last_part_of_a_name() -> None:
    options = ["--ckpt_path", "--data.batch_size", "--data.horizon", "--data.series.path"]
    assert did_you_mean("--data.path", options) == " Did you mean --data.series.path?"
    assert did_you_mean("--data.horizn", options) == " Did you mean --data.horizon?"


def test_nothing_heavy_is_imported_to_refuse() -> None:
    code = (
        "import sys; sys.argv = ['rnn-lightning', 'fit', 'nothing.csv']\n"
        "from rnn_lightning.cli.main import main\n"
        "try: main()\nexcept SystemExit as ended: print(ended.code, 'torch' in sys.modules)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout == "2 False\n"
    assert said.stderr == "rnn-lightning: error: fit nothing.csv: no such file or folder.\n"


@pytest.mark.parametrize("command", ["fit", "predict", "test"])
def test_the_short_help_is_short_and_names_options_that_there_are(
    command: str, rnn_lightning: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    text = short_help(command)
    assert len(text.splitlines()) < 40
    with pytest.raises(SystemExit):
        rnn_lightning(command, "--help")
    known = capsys.readouterr().out
    named = {word.strip(",;") for word in text.split() if word.startswith("--")}
    series = {
        option for option in named if option.startswith("--data.series.")
    }  # --data.series.help has them
    assert [option for option in named - series if option not in known] == []

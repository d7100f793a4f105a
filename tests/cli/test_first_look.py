"""What is refused before torch and Lightning are imported."""

import subprocess
import sys
from pathlib import Path

import pytest

from rnn_lightning.cli.first_look import look
from rnn_lightning.cli.main import SHORT_HELP
from rnn_lightning.errors import InputError


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("fot sales.csv", "there is no command 'fot'; there are fit, .*Did you mean fit"),
        ("fit sale.csv", r"fit sale\.csv: no such file or folder\. Did you mean sales\.csv"),
        ("fit --config sine.yaml", r"--config sine\.yaml: no such file or folder"),
        ("fit --model.hiden_size 3", r"no option --model\.hiden_size\. Did you mean --model\.hidden_size"),
        ("fit --trainer.max_epoch 3", r"no option --trainer\.max_epoch\. Did you mean --trainer\.max_epochs"),
        ("predict --forecats.plot false", r"no option --forecats\.plot"),
        ("fit - --quiet", "fit -: a table is read twice, so not from standard input"),
        ("fit --lr_scheduler StepLR", "--lr_scheduler needs an --optimizer beside it"),
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
        look(words.split())


@pytest.mark.parametrize(
    "words",
    [
        "fit sales.csv --data.series.time_column day --data.series.target_columns [sold]",
        "fit *.csv --trainer.callbacks+=LearningRateMonitor --quiet",
        "predict sales.csv --output -",
        "fit --data.series SineSeries --data.series.noise 0.1 --model my.Forecaster --model.extra 3",
        "export x.onnx",
        "--print_shtab bash",
    ],
)
def test_what_is_there_passes(words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("sales.csv").write_text("shop,day,sold\na,2024-01-01,1\n")
    look(words.split())


def test_nothing_heavy_is_imported_to_refuse() -> None:
    code = (
        "import sys; sys.argv = ['rnn-lightning', 'fit', 'nothing.csv']\n"
        "from rnn_lightning.cli.main import main\n"
        "try: main()\nexcept SystemExit as ended: print(ended.code, 'torch' in sys.modules)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout == "2 False\n"
    assert said.stderr == "rnn-lightning: error: fit nothing.csv: no such file or folder.\n"


def test_the_short_help_is_short_and_names_options_that_there_are() -> None:
    for command, text in SHORT_HELP.items():
        assert len(text.splitlines()) < 40
        words = [word.strip(",;") for word in text.split() if word.startswith("--")]
        options = [word for word in words if word not in ("--help", "--config")]
        look([command, *options])

"""The example of CONTRIBUTING.md runs as it stands, and its checkpoint is loaded by a script."""

import importlib
import re
from collections.abc import Callable
from pathlib import Path

import pytest

TEXT = (Path(__file__).parents[2] / "CONTRIBUTING.md").read_text()


def test_a_module_and_a_series_of_ones_own(
    rnn_lightning: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    source, commands = (
        re.findall(rf"```{kind}\n(.*?)```", TEXT, re.DOTALL)[-1] for kind in ("python", "bash")
    )
    Path("mine.py").write_text(source)
    monkeypatch.syspath_prepend(str(Path.cwd()))
    fit, predict = (line.split()[1:] for line in commands.strip().splitlines())
    rnn_lightning(*fit, "--trainer.max_epochs=1", "--data.num_batches_per_epoch=5")
    rnn_lightning(*predict)
    assert Path("runs/default/predict_0/forecast.csv").is_file()
    kind = importlib.import_module("mine").MyForecaster
    assert kind.load_from_checkpoint("runs/default/fit_0/checkpoints/best.ckpt").penalty == 0.1

"""Every folder beside the core can be deleted: the sine is still fitted, predicted and loaded."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import rnn_lightning

PACKAGE = Path(rnn_lightning.__file__).parent
FOLDERS = sorted(path.parent.name for path in PACKAGE.glob("*/__init__.py") if path.parent.name != "data")
SCRIPT = """
import sys
# An editable install would find what is deleted.
sys.meta_path = [each for each in sys.meta_path if "editable" not in repr(each)]
import lightning.pytorch as L
from rnn_lightning import Forecaster, SequenceDataModule, SineSeries
quiet = dict(logger=False, enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False)
trainer = L.Trainer(max_epochs=1, accelerator="cpu", **quiet)
forecaster = Forecaster(cell="rnn_tanh", hidden_size=4, transforms=["standardize"])
data = SequenceDataModule(SineSeries(), 20, 20, horizon=7, num_batches_per_epoch=5)
trainer.fit(forecaster, data)
(forecast,) = trainer.predict(forecaster, data)
assert forecast.point.shape == (1, 7, 1)
trainer.save_checkpoint("sine.ckpt")
loaded = Forecaster.load_from_checkpoint("sine.ckpt", weights_only=True)
assert (loaded.forecast(data.data.series(0)[-20:], 7) - forecast.point).abs().max() < 1e-5
"""
COMMAND = """
from pathlib import Path
from rnn_lightning.cli.command_line import run
small = ["--trainer.max_epochs=1", "--data.num_batches_per_epoch=5", "--trainer.accelerator=cpu"]
run(["fit", *small])
run(["predict", "--data.horizon=7", "--trainer.accelerator=cpu"])
assert len(Path("runs/default/predict_0/forecast.csv").read_text().splitlines()) == 8
"""


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_core_works_without(folder: str, tmp_path: Path) -> None:
    shutil.copytree(PACKAGE, tmp_path / "rnn_lightning", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.rmtree(tmp_path / "rnn_lightning" / folder)
    script = SCRIPT if folder == "cli" else SCRIPT + COMMAND
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-W", "ignore", "-c", script]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]

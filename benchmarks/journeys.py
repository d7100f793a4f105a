"""Files and calls of the journeys that a reader of the code follows: how natural is the house?

    python benchmarks/journeys.py

Counts the files of the package that run, and the calls of its functions, for one training step of a plain
LSTM, ``fit TABLE``, ``predict`` of that fit and ``predict TABLE`` without a fit. Imports do not count.
"""

import contextlib
import io
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import lightning.pytorch as L
import torch

import rnn_lightning
from rnn_lightning import Forecaster, SequenceDataModule, SineSeries
from rnn_lightning.cli.command_line import run

PACKAGE = str(Path(rnn_lightning.__file__).parent)
TABLE = Path(__file__).resolve().parent.parent / "data/airpassengers.csv"


class Journey:
    """Counts the files and calls of the package while it is entered."""

    def __init__(self) -> None:
        self.files: set[str] = set()
        self.calls = 0

    def __enter__(self) -> "Journey":
        sys.setprofile(self._note)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)

    def _note(self, frame: FrameType, event: str, _: Any) -> None:
        name = frame.f_code.co_filename
        if event == "call" and name.startswith(PACKAGE) and frame.f_code.co_name != "<module>":
            self.files.add(name.removeprefix(PACKAGE))
            self.calls += 1


class OneStep(L.Callback):
    """Follows the tenth training step."""

    journey: Journey

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if batch_idx == 10:
            self.journey = Journey()
            self.journey.__enter__()

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        sys.setprofile(None)


def training_step() -> Journey:
    step = OneStep()
    quiet: dict[str, Any] = dict.fromkeys(
        ("logger", "enable_progress_bar", "enable_model_summary", "enable_checkpointing"), False
    )
    trainer = L.Trainer(max_steps=12, accelerator="cpu", callbacks=[step], **quiet)
    trainer.fit(Forecaster(), SequenceDataModule(SineSeries()))
    return step.journey


def command(*args: str) -> Callable[[], Journey]:
    def follow() -> Journey:
        with Journey() as journey:
            run([*args, "--trainer.accelerator=cpu"])
        return journey

    return follow


def main() -> None:
    torch.set_num_threads(1)
    short = ("--trainer.max_epochs=1", "--data.num_batches_per_epoch=5")
    journeys = {
        "one training step, plain LSTM": training_step,
        "fit airpassengers.csv --model.cell lstm": command("fit", str(TABLE), "--model.cell=lstm", *short),
        "predict of that fit": command("predict", str(TABLE)),
        "predict airpassengers.csv without a fit": command("predict", str(TABLE), "--experiment=new"),
    }
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for name, follow in journeys.items():
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                journey = follow()
            print(f"{name:42} {len(journey.files):4} files {journey.calls:6} calls")
            if "-v" in sys.argv:
                print("  ", *sorted(journey.files))


if __name__ == "__main__":
    main()

"""The command ``rnn-lightning export``: the network of an experiment as a file that other programs run."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from rnn_lightning.cli.checkpoints import newest_checkpoint, read_checkpoint
from rnn_lightning.cli.run_folders import experiment_folder
from rnn_lightning.errors import InputError
from rnn_lightning.forecaster import Forecaster

DESCRIPTION = """Write the forecast of the newest best checkpoint as one ONNX graph, with its transforms:
it takes the context in the units of the data, the horizon, and where the network has them covariates and
noise, and gives the forecast."""


def export(words: Sequence[str]) -> None:
    """Run the command with its options ``words``.

    Raises:
        InputError: if there is no checkpoint, or what is needed to write the file is not installed.
    """
    options = argparse.ArgumentParser("rnn-lightning export", description=DESCRIPTION, allow_abbrev=False)
    options.add_argument("file", help="the file to write, such as model.onnx")
    options.add_argument("--experiment", default="default", help="name of the experiment")
    options.add_argument("--ckpt_path", help="a checkpoint in the place of that of the experiment, or last")
    options.add_argument("--trainer.default_root_dir", dest="root", help="the folder of runs")
    given = options.parse_args(words)
    if Path(given.file).suffix != ".onnx":
        raise InputError(f"export {given.file}: the file is an ONNX graph: end its name in .onnx.")
    if given.ckpt_path in (None, "best", "last"):
        folder = experiment_folder(given.root, given.experiment)
        path = newest_checkpoint(folder, given.ckpt_path or "best")[0]
    else:
        path = Path(given.ckpt_path)
        read_checkpoint(path)
    print(f"Checkpoint: {path}")
    forecaster = Forecaster.load_from_checkpoint(path, map_location="cpu", weights_only=True)
    forecaster.export_onnx(given.file)
    print(f"Export: {given.file} ({Path(given.file).stat().st_size / 1000:,.0f} kB)")

"""``predict`` of a table that nothing was fitted to, from file to file without Lightning."""

import contextlib
import csv
import os
import re
import sys
import tempfile
from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from rnn_lightning.cli.arguments import PRETRAINED, UNFITTED, Request, add_own_options, series_of
from rnn_lightning.cli.run_folders import new_run_folder, remove_if_empty
from rnn_lightning.files import atomic_file

QUICK = re.compile(r"--(data\.(?!series(=|$))|forecast\.|(output|quiet)(=|$))")
"""The options of the short way: those of the data but for another class of series, and of the forecast."""

PROCESSES = {"LOCAL_RANK", "WORLD_SIZE", "SLURM_NTASKS"}
"""Variables of the environment by which Lightning finds the other processes of a run."""

FOLDERS = ("tables", "evaluation", "pretrained")

OTHER_OPTIONS = {
    "learning_rate": "--model.learning_rate",
    "accelerator": "--trainer.accelerator",
    "default_root_dir": "--trainer.default_root_dir",
}
"""The options of the long way that messages of the short one name."""


class QuickPredict:
    """A forecast by the bundled network: the parsed options, and what is done with them.

    It prints and writes what ``CommandLine`` does. The config of the run has no options of the Trainer and of
    the network, because it takes none.

    Args:
        request: what was read from the words of the command.
        parser: the parser of these words.
        config: what it parsed.
    """

    def __init__(self, request: Request, parser: Any, config: Any) -> None:
        self.request, self.parser, self.config = request, parser, config
        config.forecast.output = config.output or config.forecast.output
        self.output = config.forecast.output

    def run(self, option_names: dict[str, str], cleanup: contextlib.ExitStack) -> None:
        """Forecast; ``option_names`` is filled with the option of each argument, for messages."""
        from rnn_lightning.cli.device import choose_accelerator
        from rnn_lightning.pretrained.bundled_forecaster import BundledForecaster

        config = self.config
        option_names |= OTHER_OPTIONS | self._option_names()
        if self.output == "-":  # nothing but the table goes to standard output
            cleanup.enter_context(contextlib.redirect_stdout(sys.stderr))
        self._say(UNFITTED)
        made = self.parser.instantiate(config)
        point = made.forecast.point
        forecaster = BundledForecaster("median" if point == "auto" else point)
        no_choice = SimpleNamespace(accelerator="auto", devices="auto", strategy="auto")
        _, reason = choose_accelerator(no_choice, forecaster.network)
        if reason:
            self._say(reason)
        folder = self._folder(cleanup)
        made.data.forecaster = forecaster
        made.data.setup("predict")
        forecaster.take_sizes(made.data)
        if self.output is None:
            with atomic_file(folder / "config.yaml") as file:
                file.write(self.parser.dump(config, skip_unset=False).encode())
        if made.data.can_validate:
            self._validate(forecaster, made.data, folder)
        self._forecast(forecaster, made.data, made.forecast, folder)

    def _say(self, *sentences: str) -> None:
        """Print sentences unless ``quiet``."""
        for sentence in () if self.config.quiet else sentences:
            print(sentence)

    def _validate(self, forecaster: Any, batches: Any, folder: Path) -> None:
        """Print what the network is worth on the last values of the series."""
        from rnn_lightning.evaluation.validation import validate

        batches.setup("validate")
        measures = self.output is None or batches.num_samples is not None
        said, metrics = validate(forecaster, batches, self._shown, measures)
        self._say(*said)
        if self.output is None:
            _write_metrics(folder / "metrics.csv", {name: float(value) for name, value in metrics.items()})

    def _forecast(self, forecaster: Any, batches: Any, options: Any, folder: Path) -> None:
        """Write the forecast file and the picture."""
        import torch

        from rnn_lightning.evaluation.calibrated_intervals import CalibratedIntervals
        from rnn_lightning.tables.forecast_options import if_calibrated
        from rnn_lightning.tables.table_writer import TableWriter

        batches.setup("predict")
        if options.skip_incomplete:
            batches.leave_out_incomplete()
        forecaster.take_sizes(batches)
        intervals = CalibratedIntervals()
        intervals.calibrate_for(forecaster, batches, batches.data.ends)
        writer = TableWriter(options, batches, forecaster.network, if_calibrated(intervals))
        self._say(*writer.notes())
        writer.open(folder)
        try:
            with torch.no_grad():
                for batch in self._shown(batches.predict_dataloader()):
                    writer.add(forecaster.predict_step(batch, 0), batch)
            writer.share.flush()
            writer.write()
        except BaseException:
            writer.discard()
            raise
        writer.share.close()

    def _shown(self, loader: Iterable[Any]) -> Iterable[Any]:
        """Return batches with a bar of progress on a terminal."""
        if self.config.quiet or not sys.stdout.isatty():
            return loader
        from tqdm import tqdm

        return tqdm(loader, leave=False)

    def _folder(self, cleanup: contextlib.ExitStack) -> Path:
        """Return the folder of the run, which is a temporary one where the table is all that is asked for."""
        if self.output is not None:
            return Path(cleanup.enter_context(tempfile.TemporaryDirectory(prefix="rnn-lightning-")))
        experiment = self.request.experiment_folder
        folder = experiment / new_run_folder(experiment, self.request.command)
        cleanup.callback(remove_if_empty, folder)
        return folder

    def _option_names(self) -> dict[str, str]:
        config = self.config
        groups = {
            "data.series": config.data.series.init_args,
            "forecast": config.forecast,
            "data": config.data,
        }
        names = {name: f"--{group}.{name}" for group, options in groups.items() for name in vars(options)}
        return {**names, "output": "--output"}


def parse_quickly(request: Request) -> QuickPredict | None:
    """Return the forecast that a command asks for, if it needs nothing of Lightning.

    That is ``predict TABLE`` by the bundled network with options of the data and the forecast alone. What
    cannot be parsed is left to the long way, which says what is wrong.
    """
    is_table = request.command == "predict" and request.file and not request.file.endswith(".npy")
    if not is_table or not request.is_new or "ckpt_path" in request.settings or request.asks_help:
        return None
    if PROCESSES & os.environ.keys() or not all(find_spec(f"rnn_lightning.{name}") for name in FOLDERS):
        return None
    if any(word.startswith("-") and not QUICK.match(word) for word in (*request.words, *request.rest)):
        return None
    from jsonargparse import ArgumentError, ArgumentParser

    from rnn_lightning.tables.batches import TableBatches
    from rnn_lightning.tables.forecast_options import ForecastOptions

    parser = ArgumentParser(exit_on_error=False, allow_abbrev=False)
    parser.add_class_arguments(TableBatches, "data", fail_untyped=False, sub_configs=True)
    add_own_options(parser, request.command)
    parser.add_class_arguments(ForecastOptions, "forecast")
    defaults = {name: value for name, value in PRETRAINED.items() if name.startswith("data.")}
    series = {"class_path": series_of(str(request.file)), "init_args": {}}
    parser.set_defaults({**defaults, "data.series": series, "experiment": request.settings["experiment"]})
    model = "rnn_lightning.pretrained.forecaster.PretrainedForecaster"
    try:
        words = [*request.words, f"--model_class={model}", f"--data.series.path={request.file}"]
        config = parser.parse_args(words)
    except ArgumentError:
        return None
    for name, column in request.columns.items():
        config.data.series.init_args[name] = column
    return QuickPredict(request, parser, config)


def _write_metrics(path: Path, metrics: Mapping[str, float]) -> None:
    """Write the metrics of a validation, as the logger of Lightning does."""
    values = {"epoch": 0, "step": 0, **metrics}
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, sorted(values))
        writer.writeheader()
        writer.writerow(values)

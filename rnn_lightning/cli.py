"""The command line: one LightningCLI that knows where runs are kept and what a checkpoint holds."""

import argparse
import difflib
import logging
import os
import re
import sys
import warnings
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NoReturn

import yaml
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.callbacks import ProgressBar as LightningProgressBar
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only
from lightning.pytorch.utilities.exceptions import SIGTERMException

from rnn_lightning.callbacks import (
    BestCheckpoint,
    DataSummary,
    LastCheckpoint,
    ProgressBar,
    StopAtSigterm,
    WholeCheckpoints,
)
from rnn_lightning.checkpoints import newest_checkpoint, read_checkpoint
from rnn_lightning.data.datamodule import SequenceDataModule
from rnn_lightning.errors import InputError
from rnn_lightning.forecaster import Forecaster
from rnn_lightning.output.forecast_writer import ForecastWriter

RUNS = "runs"
EXPERIMENT = "default"
SUBCOMMANDS = ("fit", "validate", "test", "predict")


LOST_PROCESS = """
rnn-lightning: error: another process of this run has ended or cannot be reached. Its own message says why,
above or in its
log; without one it was killed, often for want of memory. Go on with fit --ckpt_path last, or run predict again."""


class Parser(LightningArgumentParser):
    """Says what is wrong in one line, instead of after the usage of a hundred options."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        unknown = re.search(r"[Uu]nrecognized arguments: (--\S+)|does not accept option '(\S+)'", message)
        if unknown:
            wrong = (unknown[1] or f"--{unknown[2]}").partition("=")[0]
            close = difflib.get_close_matches(wrong, self._options(), 1)
            message += f"\nDid you mean {close[0]}?" if close else ""
        sys.stderr.write(f"{self.prog.split(' [')[0]}: error: {message}\nSee --help for the options.\n")
        sys.exit(2)

    def _options(self) -> list[str]:
        """The option strings of this parser and its subcommands."""
        options = [option for action in self._actions for option in action.option_strings]
        for subparser in getattr(self._subcommands_action, "_name_parser_map", {}).values():
            options += [option for action in subparser._actions for option in action.option_strings]
        return options


class CommandLine(LightningCLI):
    """``fit``, ``validate``, ``test`` and ``predict`` of one experiment, whose runs are kept in folders of their own."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument(
            "--experiment",
            default=EXPERIMENT,
            help="Name of the experiment. Its runs are kept in folders runs/<experiment>/<subcommand>_<number>; test and "
            "predict use its newest best checkpoint.",
        )
        parser.add_class_arguments(ForecastWriter, "forecast")
        for name in ("num_features", "num_covariates"):
            parser.link_arguments(f"data.{name}", f"model.{name}", apply_on="instantiate")
        parser.set_defaults({"data.series": {"class_path": "rnn_lightning.SineSeries"}})

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parse, where a checkpoint is to be loaded with what it holds as the defaults.

        So an option is taken from the command line, else from a config file, else from the checkpoint.
        """
        # The writer keeps the forecasts: Lightning would keep them all in memory as well.
        self._subcommand_parsers["predict"].set_defaults({"return_predictions": False})
        args = words = with_file(list(args) if isinstance(args, list) else sys.argv[1:])
        subcommand = words[0] if words else ""
        asks_help = any(word in ("-h", "--help") or word.endswith(".help") for word in words)
        chosen = (
            None if asks_help or subcommand not in SUBCOMMANDS else self._checkpoint(subcommand, words[1:])
        )
        if chosen is None:
            super().parse_arguments(parser, args)
            return
        checkpoint = read_checkpoint(chosen)
        defaults = {
            f"{group}.{name}": value
            for group, key in (("model", "hyper_parameters"), ("data", "datamodule_hyper_parameters"))
            for name, value in checkpoint.get(key, {}).items()
            if not name.startswith("_") and name not in ("num_features", "num_covariates")
        }
        self._subcommand_parsers[subcommand].set_defaults(defaults)
        super().parse_arguments(parser, args)
        self.config[subcommand].ckpt_path = str(chosen)
        rank_zero_only(print)(f"Checkpoint: {chosen}")

    def _checkpoint(self, subcommand: str, words: list[str]) -> Path | None:
        """The checkpoint that was asked for, or for all but ``fit`` the best one of the newest fit of the experiment.

        It is found before the options are parsed, for it holds the defaults of some of them.
        """
        options = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
        options.add_argument("-c", "--config", action="append", default=[])
        for name in ("experiment", "ckpt_path", "trainer.default_root_dir"):
            options.add_argument(f"--{name}")
        given = vars(options.parse_known_args(words)[0])
        settings: dict[str, Any] = {}
        for config in given.pop("config"):
            loaded = yaml.safe_load(Path(config).read_text()) if Path(config).is_file() else None
            settings |= loaded if isinstance(loaded, dict) else {}
        trainer = settings.get("trainer") or {}
        settings["trainer.default_root_dir"] = trainer.get("default_root_dir")
        settings |= {name: value for name, value in given.items() if value is not None}
        wanted = settings.get("ckpt_path")
        if wanted is None and subcommand == "fit":
            return None
        if wanted in (None, "best", "last"):
            folder = experiment_folder(
                settings["trainer.default_root_dir"], settings.get("experiment", EXPERIMENT)
            )
            return newest_checkpoint(folder, wanted or "best")
        return Path(wanted)

    def _parse_ckpt_path(self) -> None:
        """Lightning would put the model's hyperparameters of the checkpoint over the command line here."""

    def after_fit(self) -> None:
        """Say where the checkpoints are, and how good the best one is."""
        for callback in self.trainer.checkpoint_callbacks:
            if (
                isinstance(callback, ModelCheckpoint)
                and callback.best_model_path
                and self.trainer.is_global_zero
            ):
                value = callback.best_model_score  # None where a resumed fit has found no better one
                score = f" ({callback.monitor} {value:.4g})" if value is not None else ""
                print(f"Checkpoint: {os.path.relpath(callback.best_model_path)}{score}")

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        config = self.config_init[self.subcommand]
        if config.trainer.logger in (None, True):
            folder = experiment_folder(config.trainer.default_root_dir, config.experiment)
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                root = config.trainer.default_root_dir or RUNS
                raise InputError(
                    f"--trainer.default_root_dir {root}: cannot be written ({error.strerror})."
                ) from error
            kwargs["logger"] = run_loggers(folder, str(self.subcommand))
        callbacks = config.trainer.callbacks or []
        callbacks = [*callbacks] if isinstance(callbacks, list) else [callbacks]
        callbacks.append(config.forecast if self.subcommand == "predict" else StopAtSigterm())
        if self.subcommand == "fit":
            callbacks.append(DataSummary())
        has_bar = any(isinstance(callback, LightningProgressBar) for callback in callbacks)
        if config.trainer.enable_progress_bar is not False and not has_bar:
            callbacks.append(ProgressBar())
        if config.trainer.enable_checkpointing is not False and self.subcommand == "fit":
            if self.datamodule.val_fraction > 0:
                callbacks.append(BestCheckpoint())
            callbacks.append(LastCheckpoint())
        return super().instantiate_trainer(
            callbacks=callbacks, plugins=[*(config.trainer.plugins or []), WholeCheckpoints()], **kwargs
        )


def with_file(words: list[str]) -> list[str]:
    """``fit sales.csv`` in the place of the options it stands for: a source, its path, and the experiment ``sales``."""
    if len(words) < 2 or words[0] not in SUBCOMMANDS or words[1].startswith("-"):
        return words
    subcommand, path, *options = words
    if options and Path(options[0]).suffix and not options[0].startswith("-"):
        raise InputError(
            f"{subcommand} {path} {options[0]}: give one file, a folder, or a pattern in quotes."
        )
    if any(option.partition("=")[0] == "--data.series.path" for option in options):
        raise InputError(f"{subcommand} {path} and --data.series.path both name a table: give one.")
    named = [part.partition(".")[0] for part in Path(path).parts if not set(part) & set("*?[")]
    name = next((part for part in reversed(named) if part.strip("/")), EXPERIMENT)
    # Elsewhere the source comes from the checkpoint, with its options.
    source = (
        [f"--data.series={'ArraySeries' if path.endswith('.npy') else 'TableSeries'}"]
        if subcommand == "fit"
        else []
    )
    return [subcommand, f"--experiment={name}", *source, *options, f"--data.series.path={path}"]


def experiment_folder(root: str | None, experiment: str) -> Path:
    """The folder of the runs of an experiment."""
    return Path(root or RUNS) / experiment


def run_loggers(folder: Path, subcommand: str) -> list[Logger]:
    """Loggers into a new folder ``<subcommand>_<number>``: CSV, and TensorBoard where it is installed."""
    found = (re.fullmatch(rf"{subcommand}_(\d+)", path.name) for path in folder.glob(f"{subcommand}_*"))
    version = f"{subcommand}_{max((int(number[1]) for number in found if number), default=-1) + 1}"
    loggers: list[Logger] = [CSVLogger(folder.parent, name=folder.name, version=version)]
    if find_spec("tensorboard") or find_spec("tensorboardX"):
        loggers.append(TensorBoardLogger(folder.parent, name=folder.name, version=version))
    return loggers


def quieten() -> None:
    """Keep from the screen what a user of this command line can do nothing about."""
    for message in (
        "The dirpath has changed from",  # every resumed run has a folder of its own
        "Be aware that when using `ckpt_path`, callbacks",  # predict and test write no checkpoints
        "Total length of `list` across ranks is zero",  # no validation, as asked
        "LightningCLI's args parameter is intended",  # what a file name stands for
        "The number of training batches",  # fewer than log_every_n_steps: the loss is in the bar all the same
        r"`isinstance\(treespec, LeafSpec\)` is deprecated",  # Lightning's own, with torch 2.13
    ):
        warnings.filterwarnings("ignore", message)
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(worth_saying)


def worth_saying(record: logging.LogRecord) -> bool:
    """Whether a message of Lightning says something about this run."""
    return not any(part in record.getMessage() for part in ("Tip:", "TPU available", "to estimate number of"))


def run(args: Sequence[str] | None = None) -> None:
    """Run the command line with ``args``, or those of the process; errors of the user end it with exit code 2."""
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # a series class of the user's own
    quieten()
    options = {"allow_abbrev": False}
    try:
        CommandLine(
            Forecaster,
            SequenceDataModule,
            args=list(args) if args is not None else None,
            seed_everything_default=0,
            trainer_defaults={
                "max_epochs": 10,
                "gradient_clip_val": 1.0,
                "num_sanity_val_steps": 0,
                "enable_model_summary": False,
            },
            parser_class=Parser,
            parser_kwargs={"prog": "rnn-lightning", **options, **dict.fromkeys(SUBCOMMANDS, options)},
            save_config_kwargs={"overwrite": True},
            auto_configure_optimizers=False,
        )
    except (InputError, MisconfigurationException) as error:
        message = str(error)
        if re.search("No supported gpu backend|accelerator is not available", message):
            message = f"--trainer.accelerator: there is no such device here ({message}): choose cpu, or auto."
        sys.stderr.write(f"rnn-lightning: error: {message}\n")
        sys.exit(2)
    except RuntimeError as error:
        if any(name in str(error) for name in ("gloo", "NCCL")):
            error.add_note(LOST_PROCESS)
        raise
    except SIGTERMException:
        # Where a process that Lightning started ends with an error, it kills the first one, which may still
        # be at work.
        sys.exit(143 if os.environ.get("LOCAL_RANK", "0") == "0" else 0)

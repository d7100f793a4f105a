"""The command line: one LightningCLI that knows where runs are kept and what a checkpoint holds."""

import contextlib
import inspect
import logging
import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.callbacks import ProgressBar as LightningProgressBar
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI
from lightning.pytorch.utilities import rank_zero_only

from rnn_lightning.cli.arguments import (
    EXPERIMENT,
    PRETRAINED,
    SUBCOMMANDS,
    given_options,
    of_file,
    pretrained,
    strings_in,
    with_file,
    with_model,
    with_output,
    with_source,
)
from rnn_lightning.cli.callbacks import DataSummary, EpochLines, ProgressBar, StopAtSignal, Unprofiled
from rnn_lightning.cli.checkpointing import AtomicCheckpoints, BestCheckpoint, LastCheckpoint
from rnn_lightning.cli.checkpoints import CHECKPOINTS, newest_checkpoint, option_defaults, read_checkpoint
from rnn_lightning.cli.exit_messages import Parser, process_hooks, said_in_one_line
from rnn_lightning.cli.export import export
from rnn_lightning.cli.option_names import OptionNames
from rnn_lightning.cli.run_folders import (
    RunFolder,
    SaveConfig,
    experiment_folder,
    run_loggers,
    temporary_folder,
)
from rnn_lightning.data.datamodule import SequenceDataModule
from rnn_lightning.errors import InputError
from rnn_lightning.evaluation.callbacks import BacktestWriter, ValidationScores
from rnn_lightning.evaluation.prediction_intervals import PredictionIntervals
from rnn_lightning.pretrained.finetuning import FineTuning
from rnn_lightning.tables.forecast_writer import ForecastWriter


class CommandLine(LightningCLI):
    """``fit``, ``validate``, ``test`` and ``predict`` of one experiment, each run in its own folder.

    Attributes:
        is_unfitted: the network of the package forecasts a file that it was not fitted to.
    """

    is_unfitted = False

    def subcommands(self) -> dict[str, set[str]]:  # type: ignore[override]
        """Those that the parser is to have: the options of one take a tenth of a second."""
        every = LightningCLI.subcommands()
        return {name: every[name] for name in every if name in self.parser_kwargs}

    def add_core_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """The options of this project come first in the help, those of the Trainer last."""
        parser.add_lightning_class_args(self._datamodule_class, "data")
        parser.add_lightning_class_args(self._model_class, "model")
        parser.add_lightning_class_args(self.trainer_class, "trainer")
        parser.set_defaults({f"trainer.{name}": value for name, value in self.trainer_defaults.items()})

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument(
            "--experiment",
            default=EXPERIMENT,
            help="Name of the experiment. Its runs are kept in folders "
            "runs/<experiment>/<subcommand>_<number>; test and predict use its newest best checkpoint.",
        )
        parser.add_argument(
            "--quiet",
            action="store_true",
            help="Say only where the results are: no summary of the data, no progress.",
        )
        parser.add_class_arguments(ForecastWriter, "forecast")
        parser.add_class_arguments(BacktestWriter, "backtest")
        for name in ("num_features", "num_covariates"):
            parser.link_arguments(f"data.{name}", f"model.{name}", apply_on="instantiate")
        parser.set_defaults({"data.series": {"class_path": "rnn_lightning.SineSeries"}})

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parse, where a checkpoint is to be loaded with what it holds as the defaults.

        So an option is taken from the command line, else from a config file, else from the checkpoint.
        """
        # The callbacks keep the forecasts and say the scores.
        for name, option in (("predict", "return_predictions"), ("test", "verbose")):
            if name in self._subcommand_parsers:
                self._subcommand_parsers[name].set_defaults({option: False})
        original = list(args) if isinstance(args, list) else sys.argv[1:]
        args = words = with_file(original)
        subcommand = words[0] if words else ""
        asks_help = any(word in ("-h", "--help") or word.endswith(".help") for word in words)
        chosen = None
        if subcommand in SUBCOMMANDS and not asks_help:
            given, settings = given_options(words[1:])
            chosen = self._checkpoint(subcommand, given, settings)
            self.is_unfitted = chosen is None and subcommand == "predict"
            if self.is_unfitted:
                source = of_file(words[-1].partition("=")[2])
                args = [subcommand, source, *pretrained([]), *words[1:]]
                rank_zero_only(print)("Network: the pretrained one, not fitted to these series.")
        if chosen is not None:
            named = {word.rpartition("=")[2] for word in words} | strings_in(settings)
            defaults = self._defaults(*chosen, named)
            if words[1:3] != original[1:3]:
                args = with_source(words, chosen[1], defaults)
            self._subcommand_parsers[subcommand].set_defaults(defaults)
        super().parse_arguments(parser, args)
        seed = self.config.get(subcommand, {}).get("seed_everything")
        if not 0 <= int(seed or 0) < 2**32:
            raise InputError(f"--seed_everything must be from 0 to {2**32 - 1}, got {seed}.")
        if chosen is not None:
            self.config[subcommand].ckpt_path = str(chosen[0])
            rank_zero_only(print)(f"Checkpoint: {chosen[0]}")

    def _defaults(self, path: Path, checkpoint: dict[str, Any], named: set[str]) -> dict[str, Any]:
        """The options that a checkpoint holds; ``named`` is what may be a class that the user named."""
        classes = (("model", self._model_class), ("data", SequenceDataModule))
        known = {name: inspect.signature(kind).parameters for name, kind in classes}
        defaults = option_defaults(path, checkpoint, known, named)
        if defaults.get("model.pretrained"):
            defaults["trainer.max_epochs"] = PRETRAINED["trainer.max_epochs"]
        return defaults

    def _checkpoint(
        self, subcommand: str, given: dict[str, str], settings: dict[str, Any]
    ) -> tuple[Path, dict[str, Any]] | None:
        """The checkpoint that was asked for, or for all but ``fit`` the best one of the newest fit.

        It is found before the options are parsed, for it holds the defaults of some of them. There
        is none for a file that was never fitted to: the pretrained network forecasts it.
        """
        wanted = given.get("ckpt_path", settings.get("ckpt_path"))
        if wanted is None and subcommand == "fit":
            return None
        if wanted not in (None, "best", "last"):
            return Path(wanted), read_checkpoint(Path(wanted))
        trainer = settings.get("trainer")
        root = trainer.get("default_root_dir") if isinstance(trainer, dict) else None
        folder = experiment_folder(
            given.get("trainer.default_root_dir", root),
            given.get("experiment", settings.get("experiment", EXPERIMENT)),
        )
        if subcommand == "predict" and "data.series.path" in given and not any(folder.glob(CHECKPOINTS)):
            return None
        path, checkpoint, refused = newest_checkpoint(folder, wanted or "best")
        for problem in refused:
            rank_zero_only(print)(f"Note: {problem.removeprefix('--ckpt_path ')} The next good one is used.")
        return path, checkpoint

    def _parse_ckpt_path(self) -> None:
        """Lightning would put the model's hyperparameters of the checkpoint over the command line here."""

    def before_predict(self) -> None:
        """Measure the pretrained network on the end of the series, and calibrate its intervals."""
        if self.is_unfitted:
            self.datamodule.setup("predict")
            if self.datamodule.can_validate:
                self.trainer.validate(self.model, self.datamodule, verbose=False)

    def after_fit(self) -> None:
        """Say where the checkpoints are, how good the best one is, and what speaks against the fit."""
        say = rank_zero_only(print)
        if self.trainer.ckpt_path is not None and not self.trainer.callback_metrics:
            say(
                "Note: nothing was trained. The fit of the checkpoint has come to its end; to go on, raise "
                "--trainer.max_epochs."
            )
        for callback in self.trainer.checkpoint_callbacks:
            if isinstance(callback, ModelCheckpoint) and callback.best_model_path:
                value = callback.best_model_score  # None where a resumed fit has found no better one
                score = f" ({callback.monitor} {value:.4g})" if value is not None else ""
                say(f"Checkpoint: {os.path.relpath(callback.best_model_path)}{score}")
        error = self.trainer.callback_metrics.get("val_rollout_nrmse")
        if error is not None and not float(error) <= 1:
            say(
                f"Warning: the errors on the validation split (val_rollout_nrmse {float(error):.3g}) are "
                "larger than the standard deviation of the series: a forecast of the mean would be better. "
                "Train longer, lower --model.learning_rate, or look at the data."
            )

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        config = self.config_init[self.subcommand]
        kwargs |= self._run_folder(config) | {"profiler": config.trainer.profiler or Unprofiled()}
        callbacks = config.trainer.callbacks or []
        callbacks = [*callbacks] if isinstance(callbacks, list) else [callbacks]
        callbacks += [StopAtSignal(), PredictionIntervals()]
        if self.subcommand in ("predict", "test"):
            callbacks.append(config.forecast if self.subcommand == "predict" else config.backtest)
        if self.subcommand == "fit":
            callbacks.append(DataSummary(config.quiet))
        if self.is_unfitted:
            callbacks.append(ValidationScores())
        has_bar = any(isinstance(callback, LightningProgressBar) for callback in callbacks)
        if not has_bar and (config.quiet or not sys.stdout.isatty()):
            kwargs["enable_progress_bar"] = False
        if not has_bar and not config.quiet and config.trainer.enable_progress_bar is not False:
            callbacks.append(ProgressBar() if sys.stdout.isatty() else EpochLines())
        if config.trainer.enable_checkpointing is not False and self.subcommand == "fit":
            callbacks += self._validating(kwargs)
            callbacks.append(LastCheckpoint())
        if config.trainer.accumulate_grad_batches < 1:
            raise InputError("--trainer.accumulate_grad_batches must be at least 1.")
        kwargs |= {"callbacks": callbacks, "plugins": [*(config.trainer.plugins or []), AtomicCheckpoints()]}
        try:
            return super().instantiate_trainer(**kwargs)
        except (TypeError, ValueError) as error:
            raise InputError(f"--trainer: {error}") from error

    def _validating(self, trainer_settings: dict[str, Any]) -> list[Callback]:
        """What chooses the network of a fit by its validation, and says what it is worth."""
        if self.datamodule.val_fraction == 0:
            return []
        if not self.model.hparams["pretrained"]:
            return [ValidationScores(), BestCheckpoint()]
        trainer_settings["reload_dataloaders_every_n_epochs"] = 1
        return [FineTuning(), ValidationScores()]

    def _run_folder(self, config: Any) -> dict[str, Any]:
        """Where the run writes, as arguments of the Trainer: its folder comes before foreign loggers."""
        if self.subcommand == "predict" and config.forecast.output is not None:
            return {"logger": False, "default_root_dir": str(temporary_folder())}
        experiment = experiment_folder(config.trainer.default_root_dir, config.experiment)
        loggers = config.trainer.logger
        if loggers in (None, True):
            return {"logger": run_loggers(experiment, str(self.subcommand))}
        if not loggers:
            return {"default_root_dir": str(RunFolder(experiment, str(self.subcommand)).path)}
        others = loggers if isinstance(loggers, list) else [loggers]
        return {"logger": [*run_loggers(experiment, str(self.subcommand))[:1], *others]}


def quieten() -> None:
    """Keep from the screen what a user of this command line can do nothing about."""
    for message in (
        "The dirpath has changed from",  # every resumed run has a folder of its own
        "Be aware that when using `ckpt_path`, callbacks",  # predict and test write no checkpoints
        "Total length of `list` across ranks is zero",  # no validation, as asked
        "LightningCLI's args parameter is intended",  # what a file name stands for
        r"`\w+\.configure_optimizers` will be overridden",  # --optimizer
        "The number of training batches",  # fewer than log_every_n_steps: the loss is in the bar all the same
        r"`isinstance\(treespec, LeafSpec\)` is deprecated",  # Lightning's own, with torch 2.13
    ):
        warnings.filterwarnings("ignore", message)
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(worth_saying)


def worth_saying(record: logging.LogRecord) -> bool:
    """Whether a message of Lightning says something about this run."""
    return not any(part in record.getMessage() for part in ("Tip:", "TPU available", "to estimate number of"))


def run(args: Sequence[str] | None = None) -> None:
    """Run the command line with ``args``, or those of the process.

    Errors of the user, of the disk and of the memory end it with one line and exit code 2; a signal ends it
    with 128 and its number.
    """
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # a series class of the user's own
    quieten()
    out, err = (OptionNames(stream) for stream in (sys.stdout, sys.stderr))
    shown = contextlib.redirect_stdout(out), contextlib.redirect_stderr(err)
    with shown[0], shown[1], process_hooks(), said_in_one_line():
        words = with_output(sys.argv[1:] if args is None else list(args))
        if words[:1] == ["export"]:
            export(words[1:])
        elif "--forecast.output=-" in words:  # what is said goes elsewhere than the table
            with contextlib.redirect_stdout(sys.stderr):
                _run_words(words)
        else:
            _run_words(words)


def _run_words(words: list[str]) -> None:
    if "--quiet" in words:
        for name in ("lightning.pytorch", "lightning.fabric"):
            logging.getLogger(name).setLevel(logging.WARNING)
    options = {"allow_abbrev": False}
    asked = [name for name in SUBCOMMANDS if name in words[:1]] or SUBCOMMANDS
    model_class, words = with_model(words)
    CommandLine(
        model_class,
        SequenceDataModule,
        args=words,
        seed_everything_default=0,
        trainer_defaults={
            "max_epochs": 10,
            "gradient_clip_val": 1.0,
            "num_sanity_val_steps": 0,
            "enable_model_summary": False,
        },
        parser_class=Parser,
        parser_kwargs={"prog": "rnn-lightning", **options, **dict.fromkeys(asked, options)},
        save_config_callback=SaveConfig,
    )

"""The commands of a Trainer: a LightningCLI that knows where runs are kept and what a checkpoint holds."""

import contextlib
import logging
import re
import shutil
import sys
import tempfile
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NoReturn

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.callbacks import ProgressBar as LightningProgressBar
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.utilities import rank_zero_only

from rnn_lightning.cli import callbacks
from rnn_lightning.cli.arguments import UNFITTED, Request, add_own_options
from rnn_lightning.cli.checkpoints import CheckpointIO
from rnn_lightning.cli.choices import choose_model, find_checkpoint, option_defaults, read_export_options
from rnn_lightning.cli.device import choose_accelerator
from rnn_lightning.cli.main import did_you_mean
from rnn_lightning.cli.refit import refit
from rnn_lightning.cli.rendezvous import meet_first_process
from rnn_lightning.cli.run_folders import new_run_folder, remove_if_empty
from rnn_lightning.errors import InputError
from rnn_lightning.forecaster import class_name

# The other folders of the second layer may be absent.
DataModule: Any
ForecastOptions: Any
ForecastWriter: Any
as_text: Any = None
BacktestWriter: Any = None
PredictionIntervals: Any = None
ValidationScores: Any = None
FineTuning: Any = None
DynamicsReport: Any = None
if find_spec("rnn_lightning.dynamics"):
    import rnn_lightning.dynamics.systems  # noqa: F401 - so that a config may name its series
    from rnn_lightning.dynamics.report import DynamicsReport
if find_spec("rnn_lightning.tables"):
    from rnn_lightning.tables.datamodule import TableDataModule as DataModule
    from rnn_lightning.tables.forecast_options import ForecastOptions
    from rnn_lightning.tables.forecast_writer import ForecastWriter
    from rnn_lightning.tables.summary import as_text
else:
    from rnn_lightning.cli.csv_writer import CsvOptions as ForecastOptions
    from rnn_lightning.cli.csv_writer import CsvWriter as ForecastWriter
    from rnn_lightning.data.datamodule import SequenceDataModule as DataModule
if find_spec("rnn_lightning.evaluation"):
    from rnn_lightning.evaluation.callbacks import BacktestWriter, ValidationScores
    from rnn_lightning.evaluation.prediction_intervals import PredictionIntervals
if find_spec("rnn_lightning.pretrained"):
    from rnn_lightning.pretrained.finetuning import FineTuning
    from rnn_lightning.pretrained.prior import PriorSeries as PriorSeries  # so that a config may name it

TRAINER_DEFAULTS = {"max_epochs": 10, "gradient_clip_val": 1.0, "enable_model_summary": False}
TRAINER_DEFAULTS["num_sanity_val_steps"] = 0

OTHER_OPTIONS = (
    "--model.solver auto, variable_projection or reservoir solves the readout by least squares, and has "
    "options of its own: rnn-lightning fit --model.solver auto --help."
)

GROUPS = ("trainer", "data.series.init_args", "backtest", "forecast", "model", "data")
"""The groups of options that messages name; of one name in two groups the later one is meant."""


class Parser(LightningArgumentParser):
    """Print what is wrong in one line, instead of after the usage of a hundred options."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        message = re.sub(r"Group '([\w.]+)' does not accept option '", r"there is no option '\1.", message)
        if unknown := re.search(r"(?:[Uu]nrecognized arguments: --|no option ')([\w.]+)", message):
            names = [name for name, _ in self.get_defaults(skip_validation=True).items()]
            options = ["--model.solver", *(f"--{name.replace('.init_args.', '.')}" for name in names)]
            message = f"{message.rstrip('.')}.{did_you_mean(f'--{unknown[1]}', options)}"
        if "expected one argument" in message:
            message += "\nA value that begins with a dash follows an equals sign: --option=-1."
        message = re.sub(r"Parser key \"([\w.]+)\":\s*", r"--\1: ", message)
        message = re.sub(
            r"Expected a <class 'list'>\. Got value: (\S+)", r"give a list, such as '[\1]'", message
        )
        message = re.sub(r"Expected a typing\.Literal\[(.*?)\]\. Got value:", r"give one of \1, not", message)
        message = union_in_a_line(message) if "Union subtypes" in message else message
        sys.stderr.write(f"rnn-lightning: error: {message}\nSee --help for the options.\n")
        sys.exit(2)


def union_in_a_line(message: str) -> str:
    """Return what jsonargparse says of a value that none of several types accepts, in one line."""
    option, value = message.partition(":")[0], message.rpartition("Given value: ")[2].strip()
    if problem := re.search(r"Problem with given class_path [^\n]*:\s+([^\n]+)", message):
        return f"{option}: {value}: {problem[1]}."
    (subtypes,) = re.findall(r"Subtypes: \[(.*)\]", message)[:1] or [""]
    found = re.findall(r"<class '(?:\w+\.)*(\w+)'>|Literal\[(.*?)\]|(list)\[", subtypes)
    kinds = {
        "int": "a whole number",
        "float": "a number",
        "NoneType": "null",
        "str": "text",
        "list": "a list",
    }
    wanted = [kinds.get("".join(kind), "".join(kind)) for kind in found]
    return f"{option}: give {' or '.join(dict.fromkeys(wanted))}, not {value!r}."


class CommandLine(LightningCLI):
    """The parser of one command, and the network, data and Trainer that its options make.

    Args:
        request: what was read from the words of the command.
        option_names: the mapping to fill with the option of each argument, for messages.
        cleanup: what is to be undone when the command ends.
    """

    def __init__(self, request: Request, option_names: dict[str, str], cleanup: contextlib.ExitStack) -> None:
        self.request, self.option_names, self.cleanup = request, option_names, cleanup
        self.path, self.checkpoint = find_checkpoint(request)
        self.is_unfitted = request.command == "predict" and self.path is None
        self.run_folder, self.part, self.num_fits = "", "", 0  # of several fits in one run
        kind, defaults = choose_model(request, self.checkpoint)
        self.defaults = option_defaults(request, self.checkpoint, kind) | defaults
        # The last words win: no config may change the class and the file.
        fixed = {"--model_class": class_name(kind), "--data.series.path": request.file}
        words = [f"{option}={value}" for option, value in fixed.items() if value and not request.asks_help]
        super().__init__(
            kind,
            DataModule,
            args=request.words + words,
            run=False,
            seed_everything_default=0,
            trainer_defaults=TRAINER_DEFAULTS,
            parser_class=Parser,
            parser_kwargs={
                "prog": f"rnn-lightning {request.command}",
                "description": "All options of the data, the network and the Trainer.",
                "epilog": OTHER_OPTIONS,
                "allow_abbrev": False,
            },
        )

    def add_core_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the options of this project first and those of the Trainer last, as the help lists them."""
        parser.add_lightning_class_args(DataModule, "data")
        added = parser.add_lightning_class_args(self._model_class, "model")
        parser.add_lightning_class_args(Trainer, "trainer")
        parser.set_defaults({f"trainer.{name}": value for name, value in TRAINER_DEFAULTS.items()})
        for name in ("num_features", "num_covariates"):
            if f"model.{name}" in added:
                parser.link_arguments(f"data.{name}", f"model.{name}", apply_on="instantiate")

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the options of the command, and take the options of the checkpoint as defaults of all."""
        add_own_options(parser, self.request.command)
        parser.add_class_arguments(ForecastOptions, "forecast")
        if BacktestWriter is not None:
            parser.add_class_arguments(BacktestWriter, "backtest")
        try:
            parser.set_defaults(self.defaults)
        except (KeyError, TypeError, ValueError) as error:
            reason = str(error).strip("'\"").partition("\n")[0][:200]
            raise InputError(f"--ckpt_path {self.path}: its options do not fit ({reason}).") from error
        except (AttributeError, ImportError) as error:
            raise InputError(f"--data.series: there is no such class ({error}).") from error

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parse the options once: the command line goes before configs, and these before the checkpoint."""
        super().parse_arguments(parser, args)
        config = self.config
        for name, column in self.request.columns.items():
            config.data.series.init_args[name] = column
        for group in ("trainer", "model", "data", "forecast", "backtest"):
            if group in config and not hasattr(config[group], "items"):
                raise InputError(f"--{group} is a group of options and cannot be set to {config[group]!r}.")
        if not 0 <= int(config.seed_everything or 0) < 2**32:
            raise InputError(
                f"--seed_everything must be from 0 to {2**32 - 1}, got {config.seed_everything}."
            )
        if config.lr_scheduler is not None and config.optimizer is None:
            raise InputError("--lr_scheduler needs an --optimizer beside it, such as --optimizer Adam.")
        config.forecast.output = config.get("output") or config.forecast.output
        config.ckpt_path = None if self.path is None else str(self.path)
        for group in GROUPS:
            option = group.removesuffix(".init_args")
            self.option_names |= {
                name: f"--{option}.{name}" for name in vars(config.get(group) or config.data)
            }
        self.option_names["output"] = "--output"
        if config.forecast.output == "-":  # nothing but the table goes to standard output
            self.cleanup.enter_context(contextlib.redirect_stdout(sys.stderr))
        for name in ("lightning.pytorch", "lightning.fabric") if config.quiet else ():
            logging.getLogger(name).setLevel(logging.WARNING)
        if config.quiet and self.request.command == "predict":
            return
        if self.is_unfitted:
            callbacks.say(UNFITTED)
        elif self.path is not None:
            callbacks.say(f"Checkpoint: {self.path}")

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        config, settings = self.config_init, self.config_init.trainer
        if settings.accumulate_grad_batches < 1:
            raise InputError("`accumulate_grad_batches` must be at least 1.")
        network = getattr(self.model, "network", None)
        saved = (self.checkpoint or {}).get("state_dict", {}).get("network.readout.weight")
        weights = [saved, getattr(getattr(network, "readout", None), "weight", None)]
        is_double = any(each is not None and each.dtype == torch.float64 for each in weights)
        settings.accelerator, reason = choose_accelerator(
            settings, network, self.datamodule.batch_size, is_double
        )
        if reason and not config.quiet:
            callbacks.say(reason)
        if settings.check_val_every_n_epoch is not None and settings.check_val_every_n_epoch < 1:
            raise InputError(
                "`check_val_every_n_epoch` must be at least 1; `val_fraction` 0 is no validation."
            )
        given = settings.callbacks or []
        given = given if isinstance(given, list) else [given]
        if not any(isinstance(callback, LightningProgressBar) for callback in given):
            shows = not config.quiet and settings.enable_progress_bar is not False
            kwargs["enable_progress_bar"] = shows and sys.stdout.isatty()
            bar = callbacks.ProgressBar(refresh_rate=20) if sys.stdout.isatty() else callbacks.EpochLines()
            given = [*given, bar] if shows else given
        kwargs["plugins"] = [*(settings.plugins or []), CheckpointIO(self.path, self.checkpoint)]
        kwargs |= self._loggers()
        own = self._callbacks()
        if FineTuning is not None and any(isinstance(callback, FineTuning) for callback in own):
            kwargs["reload_dataloaders_every_n_epochs"] = 1
        try:
            trainer = super().instantiate_trainer(**kwargs, callbacks=given + own)
            if settings.strategy == "auto" and isinstance(trainer.strategy, DDPStrategy):
                # The buffers are equal on all devices: to send them before every step takes up to 1 ms.
                kwargs["strategy"] = DDPStrategy(broadcast_buffers=False)
                trainer = super().instantiate_trainer(**kwargs, callbacks=given + own)
        except (TypeError, ValueError) as error:
            raise InputError(f"--trainer: {error}") from error
        return trainer

    def _callbacks(self) -> list[Callback]:
        """Return the callbacks that the command needs beside those of the user."""
        config, command = self.config_init, self.request.command
        own: list[Callback] = [callbacks.StopAtSignal()]
        if PredictionIntervals is not None:
            own.append(PredictionIntervals())
        if command == "predict":
            own.append(ForecastWriter(config.forecast))
            own[-1].quiet = config.quiet  # type: ignore[attr-defined]
        if command == "test" and BacktestWriter is not None:
            config.backtest.fit = partial(refit, self)
            own.append(config.backtest)
        if command == "test" and hasattr(self.datamodule.series, "lyapunov_time"):
            own.append(DynamicsReport())
        if command == "fit" and as_text is not None:
            own.append(callbacks.DataSummary(as_text, config.quiet or self.num_fits > 1))
        keeps = command == "fit" and config.trainer.enable_checkpointing is not False
        validates = keeps and self.datamodule.val_fraction > 0
        is_tuned = getattr(self.model, "weights", None) == "bundled"
        if validates and is_tuned:
            own.append(FineTuning())
        if ValidationScores is not None and (validates or self.is_unfitted):
            own.append(ValidationScores(quiet=config.quiet and self.is_unfitted))
        if validates and not is_tuned:
            own.append(callbacks.BestCheckpoint())
        return [*own, callbacks.LastCheckpoint()] if keeps else own

    def _loggers(self) -> dict[str, Any]:
        """Return where the run writes, as arguments of the Trainer; its folder comes before other loggers."""
        config, command = self.config_init, self.request.command
        if command == "predict" and config.forecast.output is not None:
            folder = self.cleanup.enter_context(tempfile.TemporaryDirectory(prefix="rnn-lightning-"))
            return {"logger": False, "default_root_dir": folder}
        experiment = self.request.experiment_folder
        # Of several processes the first makes it; ``Trainer.log_dir`` tells the others.
        is_first = rank_zero_only.rank == 0  # type: ignore[attr-defined]
        if not self.part:
            self.run_folder = new_run_folder(experiment, command) if is_first else ""
            self.cleanup.callback(remove_if_empty, experiment / self.run_folder)
        version = str(Path(self.run_folder, self.part)) if is_first else ""
        given = config.trainer.logger
        if given is False:
            return {"logger": False, "default_root_dir": str(experiment / version)}
        loggers: list[Logger] = [CSVLogger(experiment.parent, experiment.name, version)]
        if given not in (None, True):
            loggers += given if isinstance(given, list) else [given]
        elif find_spec("tensorboard") or find_spec("tensorboardX"):
            loggers.append(TensorBoardLogger(experiment.parent, experiment.name, version))
        return {"logger": loggers}

    def run_command(self) -> None:
        """Run the method of the Trainer that the command names."""
        command, settings = self.request.command, {"ckpt_path": self.config.ckpt_path}
        settings |= {"return_predictions": False} if command == "predict" else {}
        settings |= {"verbose": BacktestWriter is None} if command == "test" else {}
        meet_first_process(self.trainer)
        if self.is_unfitted:  # measures the pretrained network, and calibrates its intervals
            self.datamodule.setup("predict")
            if self.datamodule.can_validate:
                self.trainer.validate(self.model, self.datamodule, verbose=False)
        if command == "fit" and getattr(self.model, "solver", None) == "auto":
            self._fit_best()
            return
        getattr(self.trainer, command)(self.model, datamodule=self.datamodule, **settings)
        if command == "fit":
            callbacks.describe_fit(self.trainer)

    def _fit_best(self) -> None:
        """Make the fits that ``solver`` auto stands for, in folders of the run, and keep the best in it."""
        from rnn_lightning.solver.choice import described, fit_best

        if self.path is not None:
            rule = "`solver` auto makes several fits, and cannot go on with one"
            raise InputError(f"{rule}: name the solver of the checkpoint {self.path}.")
        trainers: dict[str, Trainer] = {}

        def make_trainer(name: str, forecaster: Any, settings: dict[str, Any]) -> Trainer:
            callbacks.say(f"Trying {name}:")
            self.model, self.part, self.num_fits = forecaster, name.replace(" ", "_"), self.num_fits + 1
            vars(self.config_init.trainer).update(settings)
            trainers[name] = self.instantiate_trainer()
            return trainers[name]

        best, _, scores = fit_best(self.model, self.datamodule, self.trainer.max_epochs or 0, make_trainer)
        folder = Path(trainers[best].log_dir or trainers[best].default_root_dir)
        if trainers[best].is_global_zero:
            shutil.copytree(folder, folder.parent, dirs_exist_ok=True)
        callbacks.describe_fit(trainers[best], folder.name)
        callbacks.say(described(best, scores))


def export(request: Request) -> None:
    """Write a network as a file that other programs run: that of an experiment, or the pretrained one."""
    file, levels = read_export_options(request.rest)
    path, checkpoint = find_checkpoint(request)
    print("Network: the pretrained one, not fitted." if path is None else f"Checkpoint: {path}")
    if not find_spec("rnn_lightning.onnx"):
        raise InputError("export needs the folder onnx of the package.")
    from rnn_lightning.onnx.export import export_onnx

    kind, _ = choose_model(request, checkpoint)
    if path is None:
        network = kind(num_features=1, num_covariates=0).network
    else:
        network = kind.load_from_checkpoint(str(path), map_location="cpu", weights_only=True).network
    widths = None
    if PredictionIntervals is not None and path is not None:
        intervals = PredictionIntervals.from_checkpoint(path)
        widths = intervals.table(levels) if levels or intervals.calibrated else None
    elif levels:
        raise InputError(
            "`levels`: the pretrained network has no intervals of its own: fit it to your series."
        )
    try:
        inputs, outputs = export_onnx(network, file, widths)
    except OSError as error:
        raise InputError(f"export {file}: cannot be written ({error.strerror}).") from error
    print(f"Export: {file} ({file.stat().st_size / 1000:,.0f} kB)")
    print(f"It takes {', '.join(inputs)} and returns {', '.join(outputs)}.")

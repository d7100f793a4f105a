"""What a command needs before its parser is made: the file, the class of the network, the checkpoint."""

import argparse
import contextlib
import importlib
import inspect
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml

import rnn_lightning
from rnn_lightning.cli.checkpoints import CHECKPOINTS, newest_checkpoint, read_checkpoint
from rnn_lightning.cli.main import header_of
from rnn_lightning.errors import InputError
from rnn_lightning.forecaster import Forecaster, class_name, is_class

PRETRAINED = {
    **{f"data.{name}": "auto" for name in ("context_length", "scored_length", "horizon", "val_fraction")},
    **{f"data.{name}": "auto" for name in ("batch_size", "num_batches_per_epoch")},
    "data.test_fraction": 0.0,
    "trainer.max_epochs": 2,
}
"""The defaults of a fit of ``PretrainedForecaster``: two stages of one epoch each, see ``FineTuning``."""

SOLVER = "VariableProjectionForecaster"
SOLVED = {"trainer.max_epochs": 30, "trainer.gradient_clip_val": None}
"""The class that ``--model.solver`` asks for, and the defaults of its fit: epochs of 20 iterations each."""

COLUMNS = re.compile(
    r"--data\.series\.(init_args\.)?"
    r"(target_columns|(past_)?covariate_columns|static_columns|id_column|time_column)"
)
"""The options whose values are names of columns."""

FROM_SCRATCH = r"(?m)^(-c|--config|--model\.(cell|hidden_size|num_layers|dropout|transforms))\b"
"""The options that ask for a network from scratch."""


@dataclass(frozen=True)
class Request:
    """What is read from the words of a command before its parser is made.

    Attributes:
        command: ``fit``, ``validate``, ``test``, ``predict`` or ``export``.
        file: the table or array that follows the command, if any.
        words: the words for the parser: without the file and the class of the network.
        rest: the words without those that decide on the checkpoint.
        text: the words and the configs, as the user wrote them.
        settings: ``model_class``, ``solver``, ``experiment``, ``ckpt_path`` and ``default_root_dir``, where
            they are given.
        columns: ``id_column`` and ``time_column``, where they are given.
        names_experiment: whether the user has named the experiment.
    """

    command: str
    file: str | None
    words: list[str]
    rest: list[str]
    text: str
    settings: dict[str, str]
    columns: dict[str, str]
    names_experiment: bool

    @classmethod
    def read(cls, argv: Sequence[str]) -> "Request":
        """Read the words of a command and its configs."""
        command, *words = argv
        has_file = command != "export" and words and not words[0].startswith("-")
        file = words.pop(0) if has_file else None
        if file and words and Path(words[0]).suffix and not words[0].startswith("-"):
            raise InputError(f"{command} {file} {words[0]}: give one file, a folder, or a pattern in quotes.")
        if file and any(word.partition("=")[0] == "--data.series.path" for word in words):
            raise InputError(f"{command} {file} and --data.series.path both name a table: give one.")
        words, columns = quote_columns(words, file)
        model, others = (
            argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False) for _ in range(2)
        )
        model.add_argument("--model", "--model_class", dest="model_class")
        others.add_argument("-c", "--config", action="append", default=[])
        for name in ("experiment", "ckpt_path", "trainer.default_root_dir", "model.solver"):
            others.add_argument(f"--{name}", dest=name.rpartition(".")[2])
        try:
            named, words = model.parse_known_args(words)
            known, rest = others.parse_known_args(words)
        except argparse.ArgumentError as error:
            raise InputError(str(error)) from error
        given = vars(named) | vars(known)
        settings, texts = {} if file is None else {"experiment": _experiment_of(file)}, words
        for config, text in map(read_config, given.pop("config")):
            texts = [*texts, text]
            groups = [part for part in (config.get("trainer"), config.get("model")) if isinstance(part, dict)]
            config = {name: value for group in (*groups, config) for name, value in group.items()}
            settings |= {name: str(config[name]) for name in given if config.get(name) is not None}
        settings |= {name: value for name, value in given.items() if value is not None}
        names_experiment = bool(given.get("experiment"))
        return cls(command, file, words, rest, "\n".join(texts), settings, columns, names_experiment)

    @property
    def asks_help(self) -> bool:
        """Return True if the command only prints help."""
        return any(re.match(r"-h$|--(\S+\.)?help\b", word) for word in self.words)

    @property
    def experiment_folder(self) -> Path:
        """The folder of the runs of the experiment."""
        return Path(self.settings.get("default_root_dir", "runs"), self.settings.get("experiment", "default"))

    def names(self, class_path: str) -> bool:
        """Return True if the user has written the full name of a class."""
        return bool(re.search(rf"(?<![\w.]){re.escape(class_path)}(?![\w.])", self.text))


def quote_columns(words: Sequence[str], file: str | None) -> tuple[list[str], dict[str, str]]:
    """Return the words with the names of columns in JSON: YAML would read null, #1 and [kWh] as no names.

    A name in the header of the file is that name, whatever it looks like. Options of one name get a dash in
    the words, and their names are returned beside.
    """
    quoted, is_value, single = list(words), False, dict[str, str]()
    for place, word in enumerate(words):
        option, sign, value = word.partition("=")
        if is_value or (sign and COLUMNS.fullmatch(option)):
            option, value = (words[place - 1], word) if is_value else (option, value)
            names = [value] if value in header_of(file) else column_names(value)
            if not option.endswith("columns"):  # text that jsonargparse keeps its quotes of
                single[option.rpartition(".")[2]], names = names[0] if len(names) == 1 else value, ["-"]
            given = json.dumps(names) if option.endswith("columns") else names[0]
            quoted[place] = f"{'' if is_value else option + sign}{given}"
        is_value = not is_value and COLUMNS.fullmatch(word) is not None
    return quoted, single


def column_names(value: str) -> list[str]:
    """Return the names in an option: a list of YAML in which all is text, or one name as it is."""
    with contextlib.suppress(yaml.YAMLError):
        parsed = yaml.load(value, Loader=yaml.BaseLoader)
        if isinstance(parsed, list) and all(isinstance(name, str) for name in parsed):
            return parsed
        if isinstance(parsed, str) and value[:1] + value[-1:] in ("''", '""'):
            return [parsed]
    return [value]


def read_config(path: str) -> tuple[dict[str, Any], str]:
    """Return the content and the text of a config in YAML or JSON."""
    try:
        text = Path(path).read_text(encoding="utf-8")
        config = yaml.safe_load(text) or {}
        if not isinstance(config, dict):
            raise ValueError("a config maps options to values, as in 'experiment: mine'")
    except (OSError, yaml.YAMLError, ValueError, RecursionError) as error:
        line = getattr(getattr(error, "problem_mark", None), "line", 0)
        if isinstance(error, UnicodeDecodeError):
            line = error.object.count(b"\n", 0, error.start)
        row = "" if isinstance(error, OSError) else f", row {line + 1}"
        reason = getattr(error, "strerror", None) or getattr(error, "problem", None) or str(error)
        raise InputError(f"--config {path}{row}: not a valid config ({reason.splitlines()[0]}).") from error
    return config, text


def _experiment_of(file: str) -> str:
    """Return the name of the experiment of a file, a folder or a pattern."""
    parts = [part.partition(".")[0] for part in Path(file).parts if not set(part) & set("*?[")]
    return next((part for part in reversed(parts) if part.strip("/")), "default")


def _named_series(request: Request) -> str | None:
    """Return the class of series that the words or else a config name, if any."""
    named = re.findall(r"(?m)^--data\.series(?:\.class_path)?[=\n]([\w.]+)$", "\n".join(request.words))
    named = named or re.findall(r"(?m)^ +series:\s+class_path: *([\w.]+)", request.text)
    return named[-1] if named else None


def find_checkpoint(request: Request) -> tuple[Path | None, dict[str, Any] | None]:
    """Read the checkpoint of a command; without ``ckpt_path`` it is the best one of the newest fit.

    There is none for a new fit, and for a file that was never fitted to: the pretrained network forecasts it.
    Nor is there for an export that names no experiment where nothing was fitted: it is that of this network.
    """
    wanted, folder = request.settings.get("ckpt_path"), request.experiment_folder
    is_new = request.command == "fit"
    if request.command == "predict" and request.file and "model_class" not in request.settings:
        is_new = not request.names_experiment and not any(folder.glob(f"{CHECKPOINTS}/*.ckpt"))
    if request.command == "export" and not request.settings.keys() & {"model_class", "experiment", "solver"}:
        is_new = bool(find_spec("rnn_lightning.pretrained")) and not any(folder.glob(f"{CHECKPOINTS}/*.ckpt"))
    if request.asks_help or (wanted is None and is_new):
        return None, None
    is_path = wanted not in (None, "best", "last")
    path = Path(str(wanted)) if is_path else newest_checkpoint(folder, wanted or "best")
    return path, read_checkpoint(path)


def choose_model(
    request: Request, checkpoint: Mapping[str, Any] | None
) -> tuple[type[Forecaster], dict[str, Any]]:
    """Return the class of the network, and the defaults of options that come with it.

    No class is imported that only a checkpoint names, unless it is one of this package.
    """
    name = request.settings.get("model_class")
    if (name or "").rpartition(".")[2] == SOLVER or (name is None and "solver" in request.settings):
        return load_class(name or SOLVER), SOLVED.copy()
    if checkpoint is None:
        is_own = name or (request.command == "fit" and re.search(FROM_SCRATCH, request.text))
        has_own = request.file or request.command == "export"
        if has_own and not is_own and find_spec("rnn_lightning.pretrained"):
            return load_class("PretrainedForecaster"), PRETRAINED.copy()
        return Forecaster if name is None else load_class(name), {}
    saved = str(checkpoint.get("forecaster_class", class_name(Forecaster)))[:100]
    if name is None and not saved.startswith("rnn_lightning."):
        raise InputError(
            f"--ckpt_path: the checkpoint holds a network of the class {saved}: allow its import by --model "
            f"{saved}, or by --config with the config.yaml of its fit."
        )
    kind = load_class(name or saved)
    if not is_class(saved, kind):
        raise InputError(f"--ckpt_path: the checkpoint holds a network of the class {saved}, not {name}.")
    is_pretrained = kind.__name__ == "PretrainedForecaster"
    return kind, {"trainer.max_epochs": PRETRAINED["trainer.max_epochs"]} if is_pretrained else {}


def read_export_options(words: Sequence[str]) -> tuple[Path, list[int] | None]:
    """Return the file that an export writes and the levels of its intervals, None for the usual ones."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("file", nargs="*")
    parser.add_argument("--output")
    parser.add_argument("--forecast.levels", dest="levels")
    try:
        given, unknown = parser.parse_known_args(words)
        levels = None if given.levels is None else yaml.safe_load(given.levels)
    except (argparse.ArgumentError, yaml.YAMLError) as error:
        raise InputError(f"export: {str(error).splitlines()[0]}") from error
    if unknown:
        raise InputError(f"export {unknown[0]}: no such option; rnn-lightning export --help has all options.")
    files = [*given.file, *([given.output] if given.output else [])]
    if len(files) != 1 or Path(files[0]).suffix != ".onnx":
        named = f"export {' '.join(files)}".strip()
        raise InputError(f"{named}: name one file to write, an ONNX graph such as model.onnx.")
    if not isinstance(levels, list | None) or not all(isinstance(level, int) for level in levels or ()):
        raise InputError(f"--forecast.levels must be a list such as [80, 95], got {given.levels}.")
    return Path(files[0]), levels


def load_class(name: str) -> type[Forecaster]:
    """Import a class of networks; one of this package may be named without its module."""
    module, _, attribute = name.rpartition(".")
    try:
        kind = getattr(importlib.import_module(module) if module else rnn_lightning, attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError(f"--model {name}: there is no such class ({error}).") from error
    if not (isinstance(kind, type) and issubclass(kind, Forecaster)):
        raise InputError(f"--model {name} must be a subclass of rnn_lightning.Forecaster.")
    return kind


def option_defaults(
    request: Request, checkpoint: Mapping[str, Any] | None, kind: type[Forecaster]
) -> dict[str, Any]:
    """Return the options that the checkpoint and the file stand for, as defaults of the parser.

    No class of series is imported that only the checkpoint names, unless it is one of this package. What a
    solver was told, and the class of the network does not know, is left out.
    """
    hyper_parameters = (checkpoint or {}).get("hyper_parameters", {})
    left_out = {"num_features", "num_covariates"}
    if kind is Forecaster and "solver" in hyper_parameters:
        own = {"cell", "hidden_size", "num_layers", "transforms"}
        left_out |= inspect.signature(load_class(SOLVER)).parameters.keys() - own
    options: dict[str, Any] = {"data.series": {"class_path": "rnn_lightning.SineSeries"}}
    for group, part in (("model", "hyper_parameters"), ("data", "datamodule_hyper_parameters")):
        for name, value in (checkpoint or {}).get(part, {}).items():
            if name not in left_out and not name.startswith("_"):
                options[f"{group}.{name}"] = value
    options["experiment"] = request.settings.get("experiment", "default")
    series, facts = options["data.series"], (checkpoint or {}).get("data_facts", {})
    if isinstance(series, dict) and (categories := facts.get("static_categories")):  # found by the fit
        series = options["data.series"] = {
            **series,
            "init_args": {**series.get("init_args", {}), "static_categories": categories},
        }
    named = _named_series(request)
    if named and not str(series["class_path"]).endswith(named.rpartition(".")[2]):
        # The parser would keep the arguments of one class that another has too, such as noise.
        series = options["data.series"] = {"class_path": named if "." in named else f"rnn_lightning.{named}"}
    name = str(series.get("class_path") if isinstance(series, dict) else series)
    wanted = "ArraySeries" if str(request.file).endswith(".npy") else "TableSeries"
    if request.file is not None and name.rpartition(".")[2] != wanted:
        # A network that was fitted on other series reads a table as the script of its fit did.
        columns = inspect.signature(getattr(rnn_lightning, wanted)).parameters.keys() - {"path"}
        init_args = {key: value for key, value in facts.items() if key in columns}
        options["data.series"] = {"class_path": f"rnn_lightning.{wanted}", "init_args": init_args}
    elif not name.startswith("rnn_lightning.") and not request.names(name):
        raise InputError(
            f"--ckpt_path: the checkpoint names the class {name[:100]!r}, which is no part of rnn-lightning "
            f"and would be imported. If you trust it, say so: --data.series {name[:100]}"
        )
    return options

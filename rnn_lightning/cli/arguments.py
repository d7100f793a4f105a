"""What is read from the words of a command before its parser is made. No Lightning."""

import argparse
import contextlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml

from rnn_lightning.cli.main import did_you_mean, header_of
from rnn_lightning.cli.run_folders import CHECKPOINTS
from rnn_lightning.cli.shipped import shipped_configs
from rnn_lightning.errors import InputError

PRETRAINED = {
    **{f"data.{name}": "auto" for name in ("context_length", "scored_length", "horizon", "val_fraction")},
    **{f"data.{name}": "auto" for name in ("batch_size", "num_batches_per_epoch")},
    "data.test_fraction": 0.0,
    "trainer.max_epochs": 2,
}
"""The defaults of a fit of ``PretrainedForecaster``: two stages of one epoch each, see ``FineTuning``."""

OPTIONS = {
    "experiment": "Name of the experiment, whose runs are kept in runs/<experiment>/<command>_<number>.",
    "ckpt_path": "Path of a checkpoint, or best or last of the newest fit; by default best, and none to fit.",
    "model_class": "Class of the network, such as mine.MyForecaster; --model CLASS for short.",
    "output": "Write the table alone, to this file (.csv, .parquet) or with - to standard output.",
}
"""The options of the command itself, and their help."""

UNFITTED = "Network: the pretrained one, not fitted to these series."

COLUMNS = re.compile(
    r"--data\.series\.(init_args\.)?"
    r"(target_columns|(past_)?covariate_columns|static_columns|id_column|time_column)"
)
"""The options whose values are names of columns."""


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

    @property
    def is_new(self) -> bool:
        """Whether there is no checkpoint to look for.

        That is a fit, forecasts of a file never fitted to, and an export of no experiment before any fit.
        """
        is_fitted = any(self.experiment_folder.glob(f"{CHECKPOINTS}/*.ckpt"))
        if self.command == "predict" and self.file and "model_class" not in self.settings:
            return not self.names_experiment and not is_fitted
        if self.command == "export" and not self.settings.keys() & {"model_class", "experiment", "solver"}:
            return bool(find_spec("rnn_lightning.pretrained")) and not is_fitted
        return self.command == "fit"

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
            given = json.dumps(names, ensure_ascii=False) if option.endswith("columns") else names[0]
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
        if not config:
            raise ValueError("it is empty")
    except (OSError, yaml.YAMLError, ValueError, RecursionError) as error:
        line = getattr(getattr(error, "problem_mark", None), "line", 0)
        if isinstance(error, UnicodeDecodeError):
            line = error.object.count(b"\n", 0, error.start)
        if isinstance(error, FileNotFoundError):
            hint = did_you_mean(Path(path).stem, shipped_configs())
            raise InputError(f"--config {path}: no such file, and no bundled config.{hint}") from error
        row = "" if isinstance(error, OSError) else f", row {line + 1}"
        reason = getattr(error, "strerror", None) or getattr(error, "problem", None) or str(error)
        raise InputError(f"--config {path}{row}: not a valid config ({reason.splitlines()[0]}).") from error
    return config, text


def _experiment_of(file: str) -> str:
    """Return the name of the experiment of a file, a folder or a pattern."""
    parts = [part.partition(".")[0] for part in Path(file).parts if not set(part) & set("*?[")]
    return next((part for part in reversed(parts) if part.strip("/")), "default")


def series_of(file: str) -> str:
    """Return the class of the series of a file."""
    return f"rnn_lightning.{'ArraySeries' if file.endswith('.npy') else 'TableSeries'}"


def add_own_options(parser: Any, command: str) -> None:
    """Add the options of the command itself to its parser."""
    for option, text in OPTIONS.items():
        if option != "output" or command == "predict":
            parser.add_argument(f"--{option}", type=str | None, help=text)
    parser.add_argument(
        "--quiet",
        action="store_true",
        help="Print only the results of a fit or test, and the paths of the files.",
    )

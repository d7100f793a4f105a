"""What the words of a command stand for: ``fit sales.csv``, ``--output FILE``, ``--model mine.Network``."""

import argparse
import importlib
import inspect
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rnn_lightning.cli.configs import read_config
from rnn_lightning.errors import InputError
from rnn_lightning.forecaster import Forecaster
from rnn_lightning.tables.table import TableSeries

EXPERIMENT = "default"
SUBCOMMANDS = ("fit", "validate", "test", "predict")

PRETRAINED = {
    "model.pretrained": "true",
    "model.learning_rate": 0.001,
    "model.warmup_steps": 10,
    "model.free_run_weight": 0.67,
    "data.context_length": "auto",
    "data.scored_length": "auto",
    "data.horizon": "auto",
    "data.val_fraction": "auto",
    "data.test_fraction": 0,
    "data.batch_size": "auto",
    "data.num_batches_per_epoch": "auto",
    "trainer.max_epochs": 2,
}
"""What ``fit FILE`` stands for: two stages of one epoch each, see ``FineTuning``."""

OF_OTHER_NETWORKS = {
    *("-c", "--config", "--ckpt_path"),
    *(
        f"--model.{name}"
        for name in ("cell", "hidden_size", "num_layers", "dropout", "transforms", "seasonal")
    ),
}
"""Options that say which network is trained, and by which settings."""


def with_output(words: list[str]) -> list[str]:
    """``predict --output FILE`` in the place of ``--forecast.output=FILE``."""
    for index, word in enumerate(words):
        if words[0] == "predict" and word.partition("=")[0] == "--output":
            name, equals, file = word.partition("=")
            if equals:
                return [*words[:index], f"--forecast.output={file}", *words[index + 1 :]]
            if index + 1 < len(words):
                return [*words[:index], f"--forecast.output={words[index + 1]}", *words[index + 2 :]]
            raise InputError(f"{name} needs the name of a file, or - for standard output.")
    return words


def with_file(words: list[str]) -> list[str]:
    """The options that ``fit sales.csv`` stands for: a source, its path, and the experiment ``sales``."""
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
    source = [of_file(path), *pretrained(options)] if subcommand == "fit" else []
    return [subcommand, f"--experiment={name}", *source, *options, f"--data.series.path={path}"]


def of_file(path: str) -> str:
    """The option that names the kind of a file."""
    return f"--data.series={'ArraySeries' if path.endswith('.npy') else 'TableSeries'}"


def pretrained(options: list[str]) -> list[str]:
    """The options of the pretrained network, unless others say which network it is to be."""
    names = {option.partition("=")[0] for option in options}
    if names & OF_OTHER_NETWORKS or "--model.pretrained=false" in options:
        return []
    return [f"--{name}={value}" for name, value in PRETRAINED.items()]


def with_source(words: list[str], checkpoint: Mapping[str, Any], defaults: dict[str, Any]) -> list[str]:
    """The options with the source that a file needs, where the checkpoint has another one.

    A network that was fitted on another kind of series reads a table with its columns ``ds`` and ``y``, one
    fitted by a script with those that the script named.
    """
    wanted = "ArraySeries" if words[-1].endswith(".npy") else "TableSeries"
    series = defaults.get("data.series") or {}
    if series.get("class_path", "").rpartition(".")[2] == wanted:
        return words
    defaults.pop("data.series", None)
    reading = checkpoint.get("table_options", {}) if wanted == "TableSeries" else {}
    names = [name for name in inspect.signature(TableSeries).parameters if name in reading and name != "path"]
    known = [f"--data.series.{name}={json.dumps(reading[name])}" for name in names]
    return [*words[:2], f"--data.series={wanted}", *known, *words[2:]]


def with_model(words: list[str]) -> tuple[type[Forecaster], list[str]]:
    """The class of the network, which ``--model my_file.MyForecaster`` may name, and the words left."""
    for index, word in enumerate(words):
        if word.partition("=")[0] != "--model":
            continue
        _, equals, name = word.partition("=")
        name = name if equals else (words[index + 1] if index + 1 < len(words) else "")
        try:
            module, _, attribute = name.rpartition(".")
            kind = getattr(importlib.import_module(module), attribute)
        except (ImportError, AttributeError, ValueError) as error:
            raise InputError(f"--model {name}: there is no such class ({error}).") from error
        if not (isinstance(kind, type) and issubclass(kind, Forecaster)):
            raise InputError(f"--model {name} must be a subclass of rnn_lightning.Forecaster.")
        return kind, [*words[:index], *words[index + (1 if equals else 2) :]]
    return Forecaster, words


def given_options(words: list[str]) -> tuple[dict[str, str], dict[str, Any]]:
    """The options that say which checkpoint is meant, and the contents of all configs, later ones first."""
    options = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    options.add_argument("-c", "--config", action="append", default=[])
    for name in ("experiment", "ckpt_path", "trainer.default_root_dir", "data.series.path"):
        options.add_argument(f"--{name}")
    try:
        given = vars(options.parse_known_args(words)[0])
    except argparse.ArgumentError as error:
        raise InputError(str(error)) from error
    settings: dict[str, Any] = {}
    for config in map(Path, given.pop("config")):
        settings |= read_config(config) if config.is_file() else {}
    return {name: value for name, value in given.items() if value is not None}, settings


def strings_in(value: Any) -> set[str]:
    """All text in nested lists and mappings."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return set().union(*map(strings_in, value))
    return {value} if isinstance(value, str) else set()

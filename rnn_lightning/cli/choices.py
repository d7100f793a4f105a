"""What a command chooses before its parser is made: checkpoint, class of the network, and defaults."""

import argparse
import importlib
import inspect
import re
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml

import rnn_lightning
from rnn_lightning.cli.arguments import PRETRAINED, Request, series_of
from rnn_lightning.cli.checkpoints import newest_checkpoint, read_checkpoint
from rnn_lightning.errors import InputError
from rnn_lightning.forecaster import Forecaster, class_name, is_class

SOLVER = "VariableProjectionForecaster"
SOLVED = {"trainer.max_epochs": 30, "trainer.gradient_clip_val": None}
"""The class that ``--model.solver`` asks for, and the defaults of its fit: epochs of 20 iterations each."""

FROM_SCRATCH = r"(?m)^(-c|--config|--model\.(cell|hidden_size|num_layers|dropout|transforms))\b"
"""The options that ask for a network from scratch."""


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
    if request.asks_help or (wanted is None and request.is_new):
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
        series = checkpoint.get("datamodule_hyper_parameters", {}).get("series")
        source = str(series.get("class_path") if isinstance(series, dict) else "rnn_lightning.")[:100]
        also = "" if source.startswith("rnn_lightning.") or request.file else f" --data.series {source}"
        raise InputError(
            f"--ckpt_path: the checkpoint holds a network of the class {saved}: allow its import by --model "
            f"{saved}{also}, or by --config with the config.yaml of its fit."
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
    if kind.__name__ == SOLVER:  # of a fit made in Python, such as those of auto: its bases' options too
        left_out |= hyper_parameters.keys() - inspect.signature(kind).parameters.keys()
    options: dict[str, Any] = {"data.series": {"class_path": "rnn_lightning.SineSeries"}}
    for group, part in (("model", "hyper_parameters"), ("data", "datamodule_hyper_parameters")):
        for name, value in (checkpoint or {}).get(part, {}).items():
            if name not in left_out and not name.startswith("_"):
                options[f"{group}.{name}"] = value
    options["experiment"] = request.settings.get("experiment", "default")
    series, facts = options["data.series"], (checkpoint or {}).get("data_facts", {})
    if isinstance(series, dict) and (categories := facts.get("static_categories")):  # found by the fit
        init_args = {**series.get("init_args", {}), "static_categories": categories}
        series = options["data.series"] = {**series, "init_args": init_args}
    named = _named_series(request)
    if named and not str(series["class_path"]).endswith(named.rpartition(".")[2]):
        # The parser would keep the arguments of one class that another has too, such as noise.
        series = options["data.series"] = {"class_path": named if "." in named else f"rnn_lightning.{named}"}
    name = str(series.get("class_path") if isinstance(series, dict) else series)
    wanted = series_of(str(request.file))
    if request.file is not None and name.rpartition(".")[2] != wanted.rpartition(".")[2]:
        # A network that was fitted on other series reads a table as the script of its fit did.
        arguments = inspect.signature(getattr(rnn_lightning, wanted.rpartition(".")[2])).parameters
        columns = arguments.keys() - {"path"}
        init_args = {key: value for key, value in facts.items() if key in columns}
        options["data.series"] = {"class_path": wanted, "init_args": init_args}
    elif not name.startswith("rnn_lightning.") and not request.names(name):
        raise InputError(
            f"--ckpt_path: the checkpoint names the class {name[:100]!r}, which is no part of rnn-lightning "
            f"and would be imported. If you trust it, say so: --data.series {name[:100]}"
        )
    return options

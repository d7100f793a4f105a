"""What can be refused before the seconds that importing torch and Lightning takes; the rest is seen later."""

import ast
import csv
import difflib
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from rnn_lightning.errors import InputError

COMMANDS = ("fit", "validate", "test", "predict", "export")

OWN = {
    "config", "experiment", "ckpt_path", "quiet", "output", "seed_everything", "print_config", "optimizer",
    "lr_scheduler", "verbose", "weights_only", "return_predictions", "help", "trainer", "model", "data",
    "forecast", "backtest", "torch_compile",
}  # fmt: skip
"""The first words of options."""

CLASSES = {
    "model": ("forecaster.py", "Forecaster"),
    "data": ("data/datamodule.py", "SequenceDataModule"),
    "forecast": ("tables/forecast_writer.py", "ForecastWriter"),
    "backtest": ("evaluation/callbacks.py", "BacktestWriter"),
}


def look(words: Sequence[str]) -> None:
    """Refuse a command, file, option or column that is not there.

    Raises:
        InputError: says what there is.
    """
    if words[0] not in COMMANDS and not words[0].startswith("-"):
        close = difflib.get_close_matches(words[0], COMMANDS, 1)
        hint = f" Did you mean {close[0]}?" if close else ""
        raise InputError(f"there is no command {words[0]!r}; there are {', '.join(COMMANDS)}.{hint}")
    if words[0] not in COMMANDS or words[0] == "export":
        return
    names = [word.partition("=")[0] for word in words[1:] if word.startswith("--")]
    is_own = "--model" not in names
    for name in names:
        _require_option(name, is_own)
    if "--lr_scheduler" in names and "--optimizer" not in names and "--config" not in names:
        raise InputError("--lr_scheduler needs an --optimizer beside it, such as --optimizer Adam.")
    for index, word in enumerate(words):
        if word in ("-c", "--config") and index + 1 < len(words):
            _require_file(words[index + 1], "--config")
    if words[1:2] == ["-"]:
        raise InputError(
            f"{words[0]} -: a table is read twice, so not from standard input: save it to a file."
        )
    if len(words) > 1 and not words[1].startswith("-"):
        _require_file(words[1], words[0])
        if words[0] == "fit" and "--config" not in names and "-c" not in words:
            _require_columns(words)


def _require_option(name: str, is_own: bool) -> None:
    """Refuse an option whose first two words are not known."""
    group, _, rest = name.removeprefix("--").partition(".")
    if group not in OWN:
        raise InputError(_unknown(name, [f"--{own}" for own in OWN]))
    option = rest.partition(".")[0].rstrip("+")
    if not option or option in ("help", "class_path", "init_args") or (group == "model" and not is_own):
        return
    options = _options(group)
    if options and option not in options:
        raise InputError(_unknown(name, [f"--{group}.{known}" for known in options]))


def _unknown(name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, 1)
    hint = f" Did you mean {close[0]}?" if close else ""
    return f"there is no option {name}.{hint} See --help for the options."


def _options(group: str) -> list[str]:
    """The arguments of the class of a group, read from its file; empty if it is not one of these."""
    if group == "trainer":
        (lightning,) = find_spec("lightning").submodule_search_locations or [""]  # type: ignore[union-attr]
        path, name = Path(lightning, "pytorch/trainer/trainer.py"), "Trainer"
    elif group in CLASSES:
        path, name = Path(__file__).parent.parent / CLASSES[group][0], CLASSES[group][1]
    else:
        return []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ClassDef) and node.name == name:
            for part in node.body:
                if isinstance(part, ast.FunctionDef) and part.name == "__init__":
                    arguments = part.args
                    return [argument.arg for argument in (*arguments.args, *arguments.kwonlyargs)][1:]
    return []


def _require_file(name: str, what: str) -> None:
    if not set(name) & set("*?[") and not Path(name).exists():
        close = difflib.get_close_matches(Path(name).name, _neighbours(Path(name).parent), 1)
        hint = f" Did you mean {Path(name).parent / close[0]}?" if close else ""
        raise InputError(f"{what} {name}: no such file or folder.{hint}")


def _neighbours(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()] if folder.is_dir() else []


def _require_columns(words: Sequence[str]) -> None:
    """Name all columns that a plain CSV file lacks, where its header can be read at a glance."""
    path = Path(words[1])
    given = {}
    for index, word in enumerate(words):
        name, equals, value = word.partition("=")
        if name.startswith("--data.series"):
            given[name] = value if equals else (words[index + 1] if index + 1 < len(words) else "")
    if path.suffix != ".csv" or not path.is_file() or "--data.series.separator" in given:
        return
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            header = next(csv.reader([file.readline(1_000_000)]), [])
    except UnicodeDecodeError:
        return
    if len(header) < 2:  # another separator, or nothing: the reader says more
        return
    wanted = {
        "id_column": given.get("--data.series.id_column"),
        "time_column": given.get("--data.series.time_column", "ds"),
        "target_columns": given.get("--data.series.target_columns", "y"),
        "covariate_columns": given.get("--data.series.covariate_columns"),
    }
    missing = []
    for option, columns in wanted.items():
        names = [part.strip(" '\"") for part in (columns or "").strip("[]").split(",")]
        missing += [(name, option) for name in names if name and name not in header]
    if missing:
        lacking = ", ".join(repr(name) for name, _ in missing)
        options = ", ".join(dict.fromkeys(f"--data.series.{option}" for _, option in missing))
        many = "s" if len(missing) > 1 else ""
        raise InputError(
            f"{path} has no column{many} {lacking}: it has {', '.join(header)}; name the right one{many} by "
            f"{options}."
        )

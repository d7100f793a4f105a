"""The entry point of ``rnn-lightning``: help, version and the first checks come before the heavy imports."""

import contextlib
import csv
import difflib
import locale
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from types import FrameType

from rnn_lightning import __version__
from rnn_lightning.cli.shipped import find_configs, list_configs
from rnn_lightning.errors import InputError

COMMANDS = ("fit", "validate", "test", "predict", "export", "configs")

COLUMNS = {"time_column": "ds", "target_columns": "y"}
"""The options of columns that a table must have, with their defaults."""


def main() -> None:
    """Run the command of the process, whatever its terminal, its locale and its pipes are like."""
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, _stop_at_once)
    _use_utf8()
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115
        with contextlib.suppress(AttributeError):  # not a terminal, a file or a pipe
            getattr(sys, name).reconfigure(errors="backslashreplace")
    try:
        try:
            _run_command(sys.argv[1:])
        finally:
            sys.stdout.flush()
    except BrokenPipeError:  # the reader, such as head, has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(128 + 13)  # SIGPIPE, which Windows has not


def _run_command(argv: list[str]) -> None:
    """Print help and version before the seconds that imports take; run everything else."""
    if argv in ([], ["-h"], ["--help"]):
        print(short_help(), end="")
    elif argv in (["fit", "-h"], ["predict", "-h"], ["test", "-h"]):
        print(short_help(argv[0]), end="")
    elif argv == ["--version"]:
        print(f"rnn-lightning {__version__}{_kernel()}")
    else:
        # Threads of OpenMP that wait for the next of many small operators would double the CPU time.
        os.environ.setdefault("OMP_WAIT_POLICY", "passive")
        try:
            if argv[0] == "configs":
                print(list_configs(argv[1:]), end="")
                return
            check_file(argv)
            from rnn_lightning.cli.command_line import run
        except (InputError, MemoryError) as error:
            sys.stderr.write(f"rnn-lightning: error: {str(error) or 'out of memory.'}\n")
            sys.exit(2)
        run(find_configs(argv))


def short_help(command: str = "") -> str:
    """Return the short help of all commands, or of ``fit``, ``predict`` or ``test``."""
    name = f"help_{command}.txt" if command else "help.txt"
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


def _kernel() -> str:
    """Return a description of the native kernel, if its folder is there."""
    try:
        from rnn_lightning.native import library
    except ModuleNotFoundError:
        return ""
    return f", {library.describe()}"


def check_file(argv: Sequence[str]) -> None:
    """Refuse an unknown command, a missing file or a missing column before torch is imported."""
    command, *options = argv
    if command not in COMMANDS:
        hint = did_you_mean(command, COMMANDS)
        raise InputError(f"there is no command {command!r}; there are {', '.join(COMMANDS)}.{hint}")
    if command == "export" or not options or (options[0].startswith("-") and options[0] != "-"):
        return
    path = Path(options[0])
    if "://" in options[0]:
        raise InputError(f"{command} {options[0]}: addresses are not read: save the table to a file first.")
    if options[0] == "-":
        raise InputError(
            f"{command} -: a table is read twice, so not from standard input: save it to a file."
        )
    if not set(options[0]) & set("*?[") and not path.exists():
        files = [str(path.with_name(file.name)) for file in path.parent.glob("*")]
        raise InputError(f"{command} {path}: no such file or folder.{did_you_mean(str(path), files)}")
    words = [word for option in options for word in option.split("=", 1)]
    has_config = {"-c", "--config", "--data.series.separator"} & set(words)
    if command == "fit" and path.suffix == ".csv" and path.is_file() and not has_config:
        _check_columns(path, dict(pairwise(words)))


def _check_columns(path: Path, given: Mapping[str, str]) -> None:
    """Refuse a plain CSV file whose header lacks a column; ``given`` maps each word to the next one."""
    header = header_of(str(path))
    missing: dict[str, str] = {}
    is_numbered = given.get("--data.series.number_rows", "false").lower() == "true"
    for option, default in COLUMNS.items():
        if option == "time_column" and is_numbered:
            continue
        value = given.get(f"--data.series.{option}", default)
        names = [value] if value in header else value.strip("[]").split(",")
        names = [name if name in header else name.strip(" '\"") for name in names]
        missing |= {name: option for name in names if name not in header}
    is_plain = set(missing.values()) == set(COLUMNS) and len(set(header) - {"unique_id"}) == 2
    if is_plain and not any(f"--data.series.{option}" in given for option in COLUMNS):
        return  # the reader finds which one holds dates
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        lines = csv.reader(file.readline(100_000) for _ in range(60))
        follows = any(missing.keys() <= set(row) for row in lines)  # after a comment or a title
    # Of one column the separator is another one: the reader says more.
    number = ", or set --data.series.number_rows if it has no time" * ("time_column" in missing.values())
    if missing and len(header) > 1 and not follows:
        raise InputError(
            f"{path} has no column{'s' * (len(missing) > 1)} {', '.join(map(repr, missing))}: it has "
            f"{', '.join(header)}; name the right ones by "
            f"{', '.join(f'--data.series.{option}' for option in dict.fromkeys(missing.values()))}{number}."
        )


def header_of(file: str | None) -> list[str]:
    """Return the names in the header of a plain CSV file; none of any other."""
    path = Path(str(file))
    if path.suffix != ".csv" or not path.is_file():
        return []
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as lines:
        return next(csv.reader([lines.readline(1_000_000)]), [])


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return a hint at the known name closest to a wrong one, or to its last part, or nothing."""
    names = list(known)
    word, ends = name.rpartition(".")[2].strip("-"), {each.rpartition(".")[2]: each for each in names}
    close = difflib.get_close_matches(name, names, 1)
    if not close or not difflib.get_close_matches(word, [close[0].rpartition(".")[2].strip("-")]):
        alike = difflib.get_close_matches(word, ends)
        likeness = {end: difflib.SequenceMatcher(None, end, word).ratio() for end in ends}
        close = [ends[max(likeness, key=likeness.__getitem__)]] if alike else []
    return f" Did you mean {close[0]}?" if close else ""


def _stop_at_once(number: int, _: FrameType | None) -> None:
    """End the process at Ctrl-C while there is nothing to lose: imports can swallow Python's exception."""
    os.write(2, b"\nrnn-lightning: stopped by Ctrl-C.\n")
    os._exit(128 + number)


def _use_utf8() -> None:
    """Read and write files as UTF-8 in every locale; Python decides that when it starts."""
    if not sys.flags.utf8_mode and locale.getencoding().lower().replace("-", "") != "utf8":
        encoding = getattr(sys.stdout, "encoding", "ascii")
        os.environ.setdefault("PYTHONIOENCODING", f"{encoding}:backslashreplace")
        words = [sys.executable, "-X", "utf8", *sys.orig_argv[1:]]
        if os.name == "nt":  # there the caller would not wait for the new process
            sys.exit(subprocess.call(words))
        os.execv(sys.executable, words)


if __name__ == "__main__":
    main()

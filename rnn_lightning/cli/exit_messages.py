"""How a command ends: by wrong options, a signal, or an error of user, disk or memory, in one line each."""

import contextlib
import difflib
import errno
import os
import re
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from types import FrameType
from typing import Any, NoReturn

from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.cli import LightningArgumentParser

from rnn_lightning.errors import InputError

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

STOPPED_BY = {
    signal.SIGINT: "Ctrl-C",
    signal.SIGTERM: "SIGTERM",
    signal.SIGHUP: "SIGHUP: the terminal has gone",
}

DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO}

RESTORING = ("restore", "resume_start")
"""Beginnings of the names of Lightning's functions that put a checkpoint's state back."""

LOST_PROCESS = """
rnn-lightning: error: another process of this run has ended or cannot be reached. Its own message says why,
above or in its log; without one it was killed, often for want of memory. Go on with fit --ckpt_path last, or
run predict again."""


class Stopped(SystemExit):
    """The process was asked to stop by a signal; the exit code is 128 and its number, as shells have it."""

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)
        self.signal = signal.Signals(number)


def stop_now(number: int, _: FrameType | None = None) -> None:
    """A signal handler that ends the process by an exception."""
    raise Stopped(number)


def handle_stop_signals(handler: Any) -> None:
    """Give the signals that ask a process to stop to a handler, where this thread may.

    One that is ignored stays ignored: so ``nohup`` and shells keep it from a process in the background.
    """
    if threading.current_thread() is threading.main_thread():
        for number in STOP_SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, handler)


class Parser(LightningArgumentParser):
    """Says what is wrong in one line, instead of after the usage of a hundred options."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        unknown = re.search(r"[Uu]nrecognized arguments: (--\S+)|does not accept option '(\S+)'", message)
        if unknown:
            wrong = (unknown[1] or f"--{unknown[2]}").partition("=")[0]
            close = difflib.get_close_matches(wrong, self._options(), 1)
            message += f"\nDid you mean {close[0]}?" if close else ""
        if "expected one argument" in message:
            message += "\nA value that begins with a dash follows an equals sign: --option=-1."
        message = re.sub(r"Parser key \"([\w.]+)\":\s*", r"--\1: ", message)
        message = re.sub(r"Expected a typing\.Literal\[(.*?)\]\. Got value:", r"give one of \1, not", message)
        sys.stderr.write(f"{self.prog.split(' [')[0]}: error: {message}\nSee --help for the options.\n")
        sys.exit(2)

    def _options(self) -> list[str]:
        """The option strings of this parser and its subcommands."""
        options = [option for action in self._actions for option in action.option_strings]
        for subparser in getattr(self._subcommands_action, "_name_parser_map", {}).values():
            options += [option for action in subparser._actions for option in action.option_strings]
        return options


@contextlib.contextmanager
def said_in_one_line() -> Iterator[None]:
    """Errors of the user, of the disk and of the memory end the process with one line and exit code 2.

    A signal ends it with one line and 128 and its number.
    """
    try:
        yield
    except Stopped as stopped:
        # Where a process that Lightning started ends with an error, it kills the first one, which may
        # still be at work.
        if os.environ.get("LOCAL_RANK", "0") != "0":
            sys.exit(0)
        ended = f"stopped by {STOPPED_BY[stopped.signal]}; what is complete is kept"
        sys.stderr.write(f"\nrnn-lightning: {ended}.\n")
        raise
    except BrokenPipeError:
        raise
    except Exception as error:
        message = one_line(error)
        if message is None:
            if is_lost(error):
                error.add_note(LOST_PROCESS)
            raise
        sys.stderr.write(f"rnn-lightning: error: {message}\n")
        sys.exit(2)


@contextlib.contextmanager
def process_hooks() -> Iterator[None]:
    """Signals that ask the process to stop end it by an exception; threads do not speak of a full disk.

    The handlers of before come back afterwards.
    """
    before = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    handle_stop_signals(stop_now)
    of_threads = threading.excepthook

    def say(args: threading.ExceptHookArgs) -> None:
        if disk_error(args.exc_value) is None:
            of_threads(args)

    threading.excepthook = say
    try:
        yield
    finally:
        threading.excepthook = of_threads
        for number, handler in before.items():
            with contextlib.suppress(ValueError):  # not the main thread
                signal.signal(number, handler)


def one_line(error: Exception) -> str | None:
    """An error that a user can do something about, in one line; None for a defect of the program."""
    message = str(error)
    if isinstance(error, (InputError, MisconfigurationException)):
        if re.search("No supported gpu backend|accelerator is not available", message):
            return f"--trainer.accelerator: there is no such device here ({message}): choose cpu, or auto."
        return message
    if message.startswith("Early stopping conditioned on metric"):
        return f"--trainer.callbacks: {message[0].lower()}{message[1:]}."
    if missing := missing_package(error):
        return missing
    if isinstance(error, MemoryError) or re.search("can't allocate memory|out of memory", message):
        return (
            "out of memory: lower --data.batch_size, --data.num_samples or --data.horizon, or give a large "
            "table --data.series.scratch_folder. What is complete is kept."
        )
    if cause := disk_error(error):
        where = f" {os.fspath(cause.filename)!r}" if cause.filename else ""
        return f"{cause.strerror}:{where or ' the disk of the run'}. What is complete is kept."
    stack = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    if any(frame.f_code.co_name.lstrip("_").startswith(RESTORING) for frame in stack) and not is_lost(error):
        return f"--ckpt_path: the checkpoint cannot be resumed ({type(error).__name__}: {message[:200]!r})."
    return None


def is_lost(error: Exception) -> bool:
    """Whether another process of the run cannot be reached."""
    return isinstance(error, RuntimeError) and any(name in str(error) for name in ("gloo", "NCCL"))


def missing_package(error: BaseException) -> str | None:
    """What Lightning says of an optional package that is not installed, behind an exception."""
    for each in _behind(error):
        if isinstance(each, ModuleNotFoundError) and "pip install" in str(each):
            return f"a package is missing: {' '.join(str(each).split())}"
    return None


def disk_error(error: BaseException | None) -> OSError | None:
    """The error of the disk behind an exception: full, not to be written, or failing."""
    for each in _behind(error):
        if isinstance(each, OSError):
            of_polars = re.search(r"\(os error (\d+)\)", str(each))  # which sets no number
            number = int(of_polars[1]) if of_polars else each.errno
            if number in DISK_ERRORS:
                return OSError(number, os.strerror(number), each.filename)
    return None


def _behind(error: BaseException | None) -> Iterator[BaseException]:
    """An exception, and those that led to it."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__

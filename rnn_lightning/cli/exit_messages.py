"""How a command ends: a signal, or an error of user, disk or memory, each in one line. No Lightning."""

import contextlib
import errno
import logging
import os
import re
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator, Mapping
from typing import Any, TextIO

from rnn_lightning.errors import InputError

STOP_SIGNALS = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM"}
if hasattr(signal, "SIGHUP"):  # not on Windows
    STOP_SIGNALS[signal.SIGHUP] = "SIGHUP: the terminal has gone"

DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO}

RESTORING = ("restore", "resume_start", "load_from_checkpoint")
"""Beginnings of the names of Lightning's functions that put a checkpoint's state back."""

LOST_PROCESS = """
rnn-lightning: error: another process of this run has ended or cannot be reached. Its own message says why,
above or in its log; without one it was killed, often for want of memory. Go on with fit --ckpt_path last, or
run predict again."""


PORT_IN_USE = "the port {} of the first machine is used by another program: set MASTER_PORT to a free one."


class Interruption(SystemExit):
    """A signal asked the process to stop; the exit code is 128 plus its number, as in shells."""

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)
        self.signal = signal.Signals(number)

    def __str__(self) -> str:
        return self.signal.name  # Lightning prints it


def stop_now(number: int, _: Any = None) -> None:
    """End the process by an exception, as a signal handler."""
    raise Interruption(number)


def quieten() -> None:
    """Keep from the screen what a user of this command line can do nothing about."""
    for message in (
        "The dirpath has changed from",  # every resumed run has a folder of its own
        "Be aware that when using `ckpt_path`, callbacks",  # predict and test write no checkpoints
        r"`ModelCheckpoint\(monitor=.val_rollout_nrmse.\)` could not find",  # no validation: predict says it
        "Experiment logs directory",  # the config comes before the metrics
        "Total length of `list` across ranks is zero",  # no validation, as asked
        "LightningCLI's args parameter is intended",  # what a file name stands for
        r"`\w+\.configure_optimizers` will be overridden",  # --optimizer
        "The number of training batches",  # fewer than log_every_n_steps: the loss is in the bar all the same
        r"`isinstance\(treespec, LeafSpec\)` is deprecated",  # Lightning's own, with torch 2.13
    ):
        warnings.filterwarnings("ignore", message)
    for name in ("pytorch.utilities.rank_zero", "fabric.utilities.seed"):
        logging.getLogger(f"lightning.{name}").addFilter(is_relevant)


def is_relevant(record: logging.LogRecord) -> bool:
    """Return True if a log message of Lightning says what the lines of the command do not."""
    others = "Tip:|TPU available|GPU available: False|to estimate number of|Seed set to"
    return re.search(f"{others}|Restoring states|Loaded model weights", record.getMessage()) is None


def handle_stop_signals(handler: Any) -> None:
    """Handle the signals that ask a process to stop, except those that ``nohup`` or a shell ignores."""
    if threading.current_thread() is threading.main_thread():
        for number in STOP_SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, handler)


class OptionNames:
    """A stream that writes an option, such as ``--data.horizon``, where a message names `horizon`."""

    def __init__(self, stream: TextIO, options: Mapping[str, str]) -> None:
        self.stream, self.options = stream, options

    def write(self, text: str) -> int:
        """Write a text with options instead of arguments in backticks."""
        return self.stream.write(re.sub(r"`(\w+)`", lambda match: self.options.get(match[1], match[0]), text))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


@contextlib.contextmanager
def one_line_errors() -> Iterator[None]:
    """End the process with one line: with code 2 after errors, with 128 plus its number after a signal."""
    handlers = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    handle_stop_signals(stop_now)
    try:
        yield
    except Interruption as stopped:
        # Where a process that Lightning started ends with an error, it kills the first one, which may
        # still be at work.
        if os.environ.get("LOCAL_RANK", "0") != "0":
            sys.exit(0)
        by = STOP_SIGNALS[stopped.signal]
        sys.stderr.write(f"\nrnn-lightning: stopped by {by}; what is complete is kept.\n")
        raise
    except Exception as error:
        message = one_line(error)
        if is_lost(error):
            error.add_note(LOST_PROCESS)
        if message is None or isinstance(error, BrokenPipeError):
            raise
        sys.stderr.write(f"rnn-lightning: error: {message}\n")
        sys.exit(2)
    finally:
        for number, handler in handlers.items():
            with contextlib.suppress(ValueError):  # not the main thread
                signal.signal(number, handler)


def one_line(error: Exception) -> str | None:
    """Return an error that a user can do something about in one line, or None for a defect of the program."""
    message = str(error)
    if re.search("No supported gpu backend|accelerator is not available", message):
        return f"--trainer.accelerator: there is no such device here ({message}): choose cpu, or auto."
    is_taken = type(error).__name__ == "DistNetworkError" and "EADDRINUSE" in message
    if is_taken and (port := re.search(r"port: (\d+)", message)):
        return PORT_IN_USE.format(port[1])
    if message.startswith("Automatic gradient clipping is not supported"):
        return "--trainer.gradient_clip_val: a solver clips no gradients, leave it out."
    if isinstance(error, InputError) or type(error).__name__ == "MisconfigurationException":  # Lightning's
        return message
    if message.startswith("Early stopping conditioned on metric"):
        return f"--trainer.callbacks: {message[0].lower()}{message[1:]}."
    if isinstance(error, MemoryError) or re.search("can't allocate memory|out of memory", message):
        return (
            "out of memory: lower --data.batch_size, --data.num_samples or --data.horizon, or give a large "
            "table --data.series.scratch_folder. What is complete is kept."
        )
    if isinstance(error, OSError) and re.search("temporary directory|writable cache", message):
        return "no folder is writable: set TMPDIR to one that is."
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ModuleNotFoundError) and "pip install" in str(cause):
            return f"a package is missing: {' '.join(str(cause).split())}"
        of_polars = re.search(r"\(os error (\d+)\)", str(cause))  # which sets no number
        number = int(of_polars[1]) if of_polars else getattr(cause, "errno", None)
        if isinstance(cause, OSError) and number in DISK_ERRORS:
            where = repr(os.fspath(cause.filename)) if cause.filename else "the disk of the run"
            return f"{os.strerror(number)}: {where}. What is complete is kept."
        cause = cause.__cause__ or cause.__context__
    functions = [frame.f_code.co_name.lstrip("_") for frame, _ in traceback.walk_tb(error.__traceback__)]
    if any(name.startswith(RESTORING) for name in functions) and not is_lost(error):
        message = " ".join(message.split())[:200]
        return f"--ckpt_path: the checkpoint cannot be loaded ({type(error).__name__}: {message})."
    return None


def is_lost(error: Exception) -> bool:
    """Return True if another process of the run cannot be reached."""
    return isinstance(error, RuntimeError) and any(name in str(error) for name in ("gloo", "NCCL"))

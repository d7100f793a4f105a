"""``rnn-lightning`` and ``python -m rnn_lightning``."""

import contextlib
import locale
import os
import signal
import sys
from types import FrameType

HELP = """\
usage: rnn-lightning <command> [file] [options]

Train a recurrent network on sequences by teacher-forced next-step prediction, then let it generate by itself.

commands:
  fit         train on series; keeps the best and the last checkpoint
  validate    teacher-forced loss and free-running error on the validation split
  test        free-running error on the held-out end of the series
  predict     generate what follows the series: forecast.csv and forecast.png
  export      the network with its transforms as an ONNX graph, which other programs run

options:
  -h, --help  this text; after a command, all of its options
  --version   the version, and which code runs recurrent networks on the CPU

examples:
  rnn-lightning fit sales.csv
  rnn-lightning predict sales.csv --data.horizon 12
  rnn-lightning fit --config configs/sine.yaml
  rnn-lightning predict --experiment sine --data.horizon 200
  rnn-lightning export --experiment sine sine.onnx
  rnn-lightning fit --data.series.help TableSeries
"""


def main() -> None:
    """Run the command of the process, whatever its terminal, its locale and its pipes are like."""
    signal.signal(signal.SIGINT, _interrupted)
    _use_utf8()
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115
        with contextlib.suppress(AttributeError):  # not a terminal, a file or a pipe
            getattr(sys, name).reconfigure(errors="backslashreplace")
    try:
        try:
            _run_command()
        finally:
            sys.stdout.flush()
    except BrokenPipeError:  # the reader, such as head, has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(128 + signal.SIGPIPE)


def _run_command() -> None:
    """Help and version come before the seconds that importing takes."""
    if sys.argv[1:] in ([], ["-h"], ["--help"]):
        print(HELP, end="")
    elif sys.argv[1:] == ["--version"]:
        from rnn_lightning import __version__
        from rnn_lightning.model.native import library

        print(f"rnn-lightning {__version__}, {library.describe()}")
    else:
        from rnn_lightning.cli import run

        run()


def _interrupted(number: int, _: FrameType | None) -> None:
    """Ctrl-C while there is nothing to lose: Python's own exception can be lost in what is being imported."""
    os.write(2, b"\nrnn-lightning: stopped by Ctrl-C.\n")
    os._exit(128 + number)


def _use_utf8() -> None:
    """Files are read and written as UTF-8 in every locale; Python decides that when it starts."""
    if not sys.flags.utf8_mode and locale.getencoding().lower().replace("-", "") != "utf8":
        encoding = getattr(sys.stdout, "encoding", "ascii")
        os.environ.setdefault("PYTHONIOENCODING", f"{encoding}:backslashreplace")
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])


if __name__ == "__main__":
    main()

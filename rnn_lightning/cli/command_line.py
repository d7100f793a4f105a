"""The command line: a forecast without a fit takes a short way, all else goes through Lightning."""

import contextlib
import os
import sys
from collections.abc import Sequence

from rnn_lightning.cli.arguments import Request
from rnn_lightning.cli.exit_messages import OptionNames, one_line_errors, quieten
from rnn_lightning.cli.main import short_help
from rnn_lightning.cli.quick_predict import parse_quickly


def run(args: Sequence[str] | None = None) -> None:
    """Run the command line with ``args``, or with those of the process.

    Errors of the user, of the disk and of the memory end it with one line and exit code 2; a signal ends it
    with 128 and its number.
    """
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # classes of the user's own
    quieten()
    names: dict[str, str] = {}
    with contextlib.ExitStack() as cleanup:
        cleanup.enter_context(contextlib.redirect_stdout(OptionNames(sys.stdout, names)))
        cleanup.enter_context(contextlib.redirect_stderr(OptionNames(sys.stderr, names)))
        cleanup.enter_context(one_line_errors())
        request = Request.read(sys.argv[1:] if args is None else args)
        if request.command == "export" and request.asks_help:
            print(short_help("export"), end="")
        elif (quick := parse_quickly(request)) is not None:
            quick.run(names, cleanup)
        else:
            from rnn_lightning.cli.lightning_cli import CommandLine, export

            if request.command == "export":
                names["levels"] = "--forecast.levels"
                export(request)
            else:
                CommandLine(request, names, cleanup).run_command()

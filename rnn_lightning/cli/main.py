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
  -h, --help  this text; after a command, -h has its main options and --help all of them
  --version   the version, and which code runs recurrent networks on the CPU

examples:
  rnn-lightning fit sales.csv
  rnn-lightning predict sales.csv --data.horizon 12
  rnn-lightning fit --config configs/sine.yaml
  rnn-lightning predict --experiment sine --data.horizon 200
  rnn-lightning export --experiment sine sine.onnx
  rnn-lightning fit --data.series.help TableSeries
"""


OF_DATA = """\
  --data.context_length N    known steps before a forecast
  --data.horizon N           steps to forecast
  --data.series.id_column, .time_column, .target_columns, .covariate_columns, .calendar_features
                             columns of a table, if not unique_id, ds, y
"""

SHORT_HELP = {
    "fit": f"""\
usage: rnn-lightning fit [file] [options]

Train a network on a table, an array or a series of the package; rnn-lightning fit --help has all options.

  --config FILE              options in YAML, such as those of configs/; several are put together
  --experiment NAME          runs are kept in runs/NAME; by default the name of the file
  --ckpt_path last           go on with the newest fit of the experiment
{OF_DATA}\
  --model.cell CELL          lstm, gru, rnn_tanh or rnn_relu
  --model.hidden_size N      units of a layer; --model.num_layers N layers
  --model.transforms "[difference, standardize]"
  --model.learning_rate X    the optimizer is Adam; --optimizer and --lr_scheduler take any of torch
  --trainer.max_epochs N     each of --data.num_batches_per_epoch batches of --data.batch_size windows
  --trainer.accelerator cpu  or gpu; --trainer.devices N
  --seed_everything N        seed of the weights
  --quiet                    say only where the results are

examples:
  rnn-lightning fit sales.csv
  rnn-lightning fit --config configs/sine.yaml --trainer.max_epochs 3
""",
    "predict": f"""\
usage: rnn-lightning predict [file] [options]

Generate what follows the series, by the newest best checkpoint; rnn-lightning predict --help has all options.

  --config FILE              options in YAML
  --experiment NAME          whose checkpoint; by default the name of the file
  --ckpt_path FILE           another checkpoint, or last
  --output FILE              write the table alone, .csv or .parquet, or - for standard output
{OF_DATA}\
  --data.num_samples N       sampled paths
  --forecast.levels "[50, 80, 95]"
  --forecast.num_paths N     sampled paths to write and draw
  --forecast.plot_ids "[a, b]"    series in the picture
  --quiet                    say only where the results are

examples:
  rnn-lightning predict sales.csv --data.horizon 12
  rnn-lightning predict sales.csv --output - | head
""",
}


def main() -> None:
    """Run the command of the process, whatever its terminal, its locale and its pipes are like."""
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
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
    elif len(sys.argv) == 3 and sys.argv[1] in SHORT_HELP and sys.argv[2] == "-h":
        print(SHORT_HELP[sys.argv[1]], end="")
    elif sys.argv[1:] == ["--version"]:
        from rnn_lightning import __version__
        from rnn_lightning.native import library

        print(f"rnn-lightning {__version__}, {library.describe()}")
    else:
        from rnn_lightning.cli.first_look import look
        from rnn_lightning.errors import InputError

        # Threads of OpenMP that wait for the next of many small operators would double the CPU time.
        os.environ.setdefault("OMP_WAIT_POLICY", "passive")
        try:
            look(sys.argv[1:])
            from rnn_lightning.cli.command_line import run
        except (InputError, MemoryError) as error:
            sys.stderr.write(f"rnn-lightning: error: {str(error) or 'out of memory.'}\n")
            sys.exit(2)
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

"""``rnn-lightning`` and ``python -m rnn_lightning``."""

import sys

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
    """Run the command of the process; help and version come before the seconds that importing takes."""
    if sys.argv[1:] in ([], ["-h"], ["--help"]):
        print(HELP, end="")
    elif sys.argv[1:] == ["--version"]:
        from rnn_lightning import __version__
        from rnn_lightning.model.native import library

        print(f"rnn-lightning {__version__}, {library.describe()}")
    else:
        from rnn_lightning.cli import run

        run()


if __name__ == "__main__":
    main()

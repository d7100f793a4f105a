"""The names of arguments in messages, as the options of the command line that set them.

Below the command a message names an argument in backticks, such as `horizon`; the command shows
``--data.horizon``.
"""

import inspect
import re
from functools import cache
from typing import Any, TextIO

NAMED = re.compile(r"`(\w+)`")


@cache
def option_names() -> dict[str, str]:
    """Return the option of each argument; of one name in several classes, the later group counts."""
    from lightning.pytorch import Trainer

    import rnn_lightning
    from rnn_lightning.data.datamodule import SequenceDataModule
    from rnn_lightning.data.series import Series
    from rnn_lightning.evaluation.callbacks import BacktestWriter
    from rnn_lightning.forecaster import Forecaster
    from rnn_lightning.tables.forecast_options import ForecastOptions

    public = [getattr(rnn_lightning, name) for name in rnn_lightning.__all__]
    series = [kind for kind in public if isinstance(kind, type) and issubclass(kind, Series)]
    groups: list[tuple[str, Any]] = [
        ("trainer", Trainer),
        *(("data.series", kind) for kind in series),
        ("backtest", BacktestWriter),
        ("forecast", ForecastOptions),
        ("model", Forecaster),
        ("data", SequenceDataModule),
    ]
    names = {}
    for group, kind in groups:
        names |= {name: f"--{group}.{name}" for name in inspect.signature(kind).parameters}
    return names | {"output": "--output"}


def with_options(text: str) -> str:
    """Return a message with the options in the place of the arguments that it names."""
    return NAMED.sub(lambda match: option_names().get(match[1], match[0]), text)


class OptionNames:
    """A stream that writes options where messages name arguments.

    Args:
        stream: where it writes to.
    """

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        """Write a text, see ``with_options``."""
        return self.stream.write(with_options(text) if "`" in text else text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

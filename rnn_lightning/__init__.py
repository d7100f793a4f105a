"""Train a recurrent network on sequences by teacher-forced next-step prediction, then let it generate by itself.

Glossary: a *series* is one full recording, ``(time, feature)``; a *feature* is a measured channel that is predicted. A
*window* is cut from a series for training: a *context* that warms the state up, then the *scored* steps. A *rollout* is
free-running generation of *horizon* steps from a context; its *origin* is the last known step. The *state* is the recurrent
memory, always passed and returned. The *closed loop* is the network with its output fed back.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from rnn_lightning.datamodule import SequenceDataModule
    from rnn_lightning.forecaster import Forecaster
    from rnn_lightning.network import RecurrentNetwork
    from rnn_lightning.series import (
        ArraySeries,
        LinearSeries,
        RandomSeries,
        Series,
        SeriesData,
        SineSeries,
        TableSeries,
        calendar_covariates,
    )

_HOMES = {
    "Forecaster": "forecaster",
    "SequenceDataModule": "datamodule",
    "RecurrentNetwork": "network",
    "ArraySeries": "series",
    "Series": "series",
    "SeriesData": "series",
    "SineSeries": "series",
    "RandomSeries": "series",
    "LinearSeries": "series",
    "TableSeries": "series",
    "calendar_covariates": "series",
}

__all__ = [
    "ArraySeries",
    "Forecaster",
    "LinearSeries",
    "RandomSeries",
    "RecurrentNetwork",
    "SequenceDataModule",
    "Series",
    "SeriesData",
    "SineSeries",
    "TableSeries",
    "calendar_covariates",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: ``import rnn_lightning`` alone is instant."""
    if name not in _HOMES:
        raise AttributeError(f"module 'rnn_lightning' has no attribute {name!r}")
    return getattr(import_module(f"rnn_lightning.{_HOMES[name]}"), name)

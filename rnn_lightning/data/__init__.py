"""Where values come from: each source is a small class whose ``load`` returns a ``SeriesData``."""

from rnn_lightning.data.array import ArraySeries
from rnn_lightning.data.prior import PriorSeries
from rnn_lightning.data.series import Series, SeriesData, calendar_covariates
from rnn_lightning.data.synthetic import LinearSeries, RandomSeries, SineSeries
from rnn_lightning.data.table.table import TableSeries
from rnn_lightning.data.times import CALENDAR, TimeIndex, calendar_codes

__all__ = [
    "CALENDAR",
    "ArraySeries",
    "LinearSeries",
    "PriorSeries",
    "RandomSeries",
    "Series",
    "SeriesData",
    "SineSeries",
    "TableSeries",
    "TimeIndex",
    "calendar_codes",
    "calendar_covariates",
]

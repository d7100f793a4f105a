"""Where values come from: each source is a small class whose ``load`` returns a ``SeriesData``."""

from rnn_lightning.series.source import Series, SeriesData, TimeIndex
from rnn_lightning.series.synthetic import LinearSeries, RandomSeries, SineSeries
from rnn_lightning.series.table import TableSeries

__all__ = ["LinearSeries", "RandomSeries", "Series", "SeriesData", "SineSeries", "TableSeries", "TimeIndex"]

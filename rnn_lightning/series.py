"""The class paths of version 0.1 configs and checkpoints, such as ``rnn_lightning.series.TableSeries``."""

from rnn_lightning.data import ArraySeries, LinearSeries, RandomSeries, SineSeries, TableSeries

__all__ = ["ArraySeries", "LinearSeries", "RandomSeries", "SineSeries", "TableSeries"]

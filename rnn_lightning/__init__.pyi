from .data.array import ArraySeries as ArraySeries
from .data.datamodule import SequenceDataModule as SequenceDataModule
from .data.series import Series as Series
from .data.series import SeriesData as SeriesData
from .data.series import calendar_covariates as calendar_covariates
from .data.synthetic import LinearSeries as LinearSeries
from .data.synthetic import RandomSeries as RandomSeries
from .data.synthetic import SineSeries as SineSeries
from .evaluation.backtest import backtest as backtest
from .evaluation.prediction_intervals import PredictionIntervals as PredictionIntervals
from .forecaster import Forecaster as Forecaster
from .network import RecurrentNetwork as RecurrentNetwork
from .pretrained.prior import PriorSeries as PriorSeries
from .tables.plots import plot_forecast as plot_forecast
from .tables.table import TableSeries as TableSeries

__version__: str
__all__: list[str]

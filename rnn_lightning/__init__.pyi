from .data.array import ArraySeries as ArraySeries
from .data.datamodule import SequenceDataModule as SequenceDataModule
from .data.prior import PriorSeries as PriorSeries
from .data.series import Series as Series
from .data.series import SeriesData as SeriesData
from .data.series import calendar_covariates as calendar_covariates
from .data.synthetic import LinearSeries as LinearSeries
from .data.synthetic import RandomSeries as RandomSeries
from .data.synthetic import SineSeries as SineSeries
from .data.table.table import TableSeries as TableSeries
from .forecaster import Forecaster as Forecaster
from .model.network import RecurrentNetwork as RecurrentNetwork
from .output.backtest import backtest as backtest
from .output.plots import plot_forecast as plot_forecast

__version__: str
__all__: list[str]

from .data.array import ArraySeries as ArraySeries
from .data.datamodule import SequenceDataModule as SequenceDataModule
from .data.series import Series as Series
from .data.series import SeriesData as SeriesData
from .data.synthetic import LinearSeries as LinearSeries
from .data.synthetic import RandomSeries as RandomSeries
from .data.synthetic import SineSeries as SineSeries
from .dynamics.lyapunov import lyapunov_exponents as lyapunov_exponents
from .dynamics.systems import FlowSeries as FlowSeries
from .dynamics.systems import LorenzSeries as LorenzSeries
from .dynamics.systems import MackeyGlassSeries as MackeyGlassSeries
from .dynamics.systems import RecordedSeries as RecordedSeries
from .dynamics.systems import RosslerSeries as RosslerSeries
from .evaluation.backtest import backtest as backtest
from .evaluation.calibrated_intervals import CalibratedIntervals as CalibratedIntervals
from .evaluation.prediction_intervals import PredictionIntervals as PredictionIntervals
from .forecaster import Forecaster as Forecaster
from .network import RecurrentNetwork as RecurrentNetwork
from .onnx.export import export_onnx as export_onnx
from .pretrained.bundled_forecaster import BundledForecaster as BundledForecaster
from .pretrained.finetuning import FineTuning as FineTuning
from .pretrained.forecaster import PretrainedForecaster as PretrainedForecaster
from .pretrained.prior import PriorSeries as PriorSeries
from .solver.forecaster import VariableProjectionForecaster as VariableProjectionForecaster
from .tables.datamodule import TableDataModule as TableDataModule
from .tables.fit_frame import fit_frame as fit_frame
from .tables.forecast_frame import forecast_frame as forecast_frame
from .tables.plots import plot_forecast as plot_forecast
from .tables.table import TableSeries as TableSeries
from .tables.table_data import calendar_covariates as calendar_covariates

__version__: str
__all__: list[str]

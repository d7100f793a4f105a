"""Backtest: forecasts from rolling origins beside the truth, as tables, as a few lines and as a picture."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import polars as pl
import torch
from torch import Tensor

from rnn_lightning.data.array import ArraySeries
from rnn_lightning.data.batches import SequenceBatches
from rnn_lightning.data.series import GivenSeries, Series, SeriesData
from rnn_lightning.data.windows import BatchLoader, Segments, forecast_batch, rolling_starts
from rnn_lightning.errors import InputError, counted, require_counts
from rnn_lightning.evaluation.baselines import seasons_of
from rnn_lightning.evaluation.calibrated_intervals import is_trained
from rnn_lightning.evaluation.prediction_intervals import PredictionIntervals
from rnn_lightning.evaluation.records import ForecastRecords, bound_columns, forecast_columns, record
from rnn_lightning.evaluation.refit import Fit, Refits
from rnn_lightning.evaluation.scores import Scores
from rnn_lightning.files import atomic_file
from rnn_lightning.rollout import evaluating
from rnn_lightning.transforms import Traits

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from rnn_lightning.tables.table import Table

    Source: TypeAlias = Series | SeriesData | Table

TEXT_METRICS = {"mase": "MASE", "rmsse": "RMSSE", "smape": "sMAPE", "wape": "WAPE", "mae": "MAE"}

CONTEXT_LENGTH = 24
"""Known steps before each origin, unless a number is given or the network asks for more."""

NUM_NAMED_SERIES = 3
"""Number of series without an error scale that the text names."""


@dataclass(frozen=True, repr=False)
class Backtest:
    """Forecasts from rolling origins beside the truth and the baselines.

    Attributes:
        data: the series.
        scores: metrics of the forecasts.
    """

    data: SeriesData
    scores: Scores

    def __repr__(self) -> str:
        header = f"{counted(self.scores.num_forecasts, 'forecast')} of {counted(self.scores.horizon, 'step')}"
        return f"Backtest: {header}; {self.verdict}"

    @property
    def verdict(self) -> str:
        """How the forecasts compare with the baselines, in one sentence."""
        return self.scores.verdict

    @property
    def scores_by_series(self) -> pl.DataFrame:
        """Metrics by ``unique_id``, ``metric`` and where there are several ``feature``: see ``Scores``."""
        return self._named(self.scores.by_series).select(*self._keys, "metric", *self.scores.forecasters)

    @property
    def forecasts(self) -> pl.DataFrame:
        """Forecasts of known values: ids, ``ds``, ``cutoff``, ``y``, ``rnn``, its bounds, ``naive`` ..."""
        table, times = self._named(self.scores.table.filter(pl.col("y").is_not_null())), self.data.times
        series, origin, lead_time = (table[name].to_numpy() for name in ("series", "origin", "lead_time"))
        stamps = {
            "ds": times.stamps_at(series, origin + lead_time),
            "cutoff": times.stamps_at(series, origin),
        }
        columns = ["y", "rnn", *bound_columns(self.scores.levels), *self.scores.forecasters[1:]]
        return table.with_columns(**stamps).select(*self._keys, "ds", "cutoff", *columns)

    def plot(self) -> "Figure":
        """Return the error by lead time beside the baselines, and up to four forecasts beside the truth."""
        from rnn_lightning.evaluation.backtest_plot import plot_backtest

        return plot_backtest(self.data, self.scores)

    @property
    def text(self) -> str:
        """The scores in ten lines, the verdict last."""
        scores, series = self.scores, self.scores.by_series["series"].n_unique()
        header = (
            f"test      {counted(scores.num_forecasts, 'forecast')} of {counted(scores.horizon, 'step')} "
        )
        header += f"from the last origins of {counted(series, 'series')}"
        if series * len(self.data.features) > 1:
            header += "; medians over series" + (" and features" if len(self.data.features) > 1 else "")
        lines = [header, " " * 10 + "".join(f"{name:>16}" for name in scores.forecasters)]
        for metric, name in TEXT_METRICS.items():
            values = scores.pooled(metric).values()
            lines.append(f"{name:10}" + "".join(f"{value:16.4g}" for value in values))
        for level in scores.levels:
            share, width = 100 * scores.coverage(level), scores.pooled(f"width-{level}")["rnn"]
            text = f"the interval holds {share:.0f} % of the values; median width {width:.4g}"
            lines.append(f"{f'{level} %':10}{text}")
        if missing := scores.without_scale:
            named = ", ".join(map(repr, missing[:NUM_NAMED_SERIES]))
            named += " ..." if len(missing) > NUM_NAMED_SERIES else ""
            text = f"{counted(len(missing), 'series')}, without MASE and RMSSE: {named}"
            lines.append(f"no scale  {text}")
        return "\n".join([*lines, f"{self.verdict[:1].upper()}{self.verdict[1:]}."])

    def write(self, folder: Path) -> list[Path]:
        """Write ``scores.csv``, ``lead_times.csv``, ``forecasts.csv`` and ``backtest.png`` into a folder."""
        from rnn_lightning.pictures import save_png

        tables = {
            "scores": self.scores_by_series,
            "lead_times": self.scores.by_lead_time,
            "forecasts": self.forecasts,
        }
        paths = [folder / f"{name}.csv" for name in tables] + [folder / "backtest.png"]
        for path, table in zip(paths, tables.values(), strict=False):
            with atomic_file(path) as file:
                table.write_csv(file)
        save_png(self.plot(), paths[-1])
        return paths

    @property
    def _keys(self) -> list[str]:
        return ["unique_id", "feature"] if len(self.data.features) > 1 else ["unique_id"]

    def _named(self, table: pl.DataFrame) -> pl.DataFrame:
        """Add the ids of the series and the names of the features to a table with their numbers."""
        series, feature = table["series"], table["feature"]
        ids = pl.Series([self.data.ids[number] for number in series.to_list()], dtype=pl.String)
        return table.with_columns(unique_id=ids, feature=pl.Series(self.data.features).gather(feature))


def backtest(
    forecaster: Any,
    data: "Source",
    num_origins: int = 3,
    *,
    horizon: int = 24,
    origin_step: int | None = None,
    context_length: int | None = None,
    season: int | None = None,
    num_samples: int | None = None,
    levels: Sequence[int] | None = None,
    intervals: PredictionIntervals | None = None,
    seed: int = 0,
    batch_size: int = 256,
    refit: Fit | None = None,
    **options: Any,
) -> Backtest:
    """Forecast from the last origins of every series, and by naive, seasonal naive and drift as well.

    The forecasts are honest where the network was not trained on the last values: fit it with
    ``test_fraction`` above 0, or on other series. The forecaster stays as it was.

    Args:
        forecaster: a fitted network.
        data: the series, or an array of them; or a polars or pandas frame, a pandas Series or the path of a
            table, which is read as in the fit.
        num_origins: number of forecasts of each series; the last one ends where the series ends.
        horizon: number of steps to forecast.
        origin_step: steps between two origins; the horizon if None.
        context_length: number of known steps before each origin that the network is given; None for those
            that it asks for, else 24.
        season: steps of a season, 1 for none; that of each series if None.
        num_samples: number of sampled paths, which give the intervals where calibration gave none.
        levels: levels of the intervals in percent; 80 if None, where there are intervals.
        intervals: those of the fit, see ``PredictionIntervals.from_checkpoint``; by default those of
            ``fit_frame`` or of the checkpoint that the network was loaded from. A network that was never
            trained has its own, calibrated before the first origin.
        seed: seed of the sampled paths.
        batch_size: number of forecasts at a time.
        refit: function that returns a new network fitted to the series up to an origin. It is called for each
            origin, which takes as many fits, and makes the forecasts in place of ``forecaster``: such as
            ``lambda data: fit_frame(Forecaster(), data, horizon=12)``.
        options: arguments of ``TableSeries`` for a frame or path that differ from those of the fit, such as
            ``id_column``.

    Raises:
        InputError: if no series is long enough, or levels are given and nothing gives intervals.
    """
    sizes: dict[str, int | None] = {"num_origins": num_origins, "horizon": horizon, "season": season}
    sizes |= {"origin_step": origin_step, "context_length": context_length, "batch_size": batch_size}
    require_counts(**sizes, num_samples=num_samples)
    if hasattr(forecaster, "require_fitted"):
        forecaster.require_fitted()
    data = _load(forecaster, data, options)
    step = origin_step or horizon
    start = torch.maximum(data.offsets[:-1], data.ends - horizon - (num_origins - 1) * step)
    segments = Segments(torch.arange(data.num_series), data.offsets[:-1], start, data.ends)
    data = replace(data, traits={**data.traits, **_season_traits(data, start, season)})
    seasons = seasons_of(data)
    least = context_length or CONTEXT_LENGTH
    if context_length is None:
        wanted = getattr(forecaster, "context_wanted", lambda *_: 0)(data.traits, horizon)
        context_length = max(least, min(wanted, int(data.lengths.max())))
    windows = rolling_starts(segments, least, horizon, num_origins, step).earlier(context_length - least)
    if not is_trained(forecaster):  # it is made for the sizes of the data
        batches = SequenceBatches(GivenSeries(data), context_length, horizon=horizon)
        batches.data = data
        forecaster.take_sizes(batches)
    if len(windows) == 0:
        raise InputError("no series has a step to forecast after a context of one: give longer ones.")
    refits = None if refit is None else Refits(refit, data, segments, windows, context_length)
    intervals = intervals or (PredictionIntervals.of(forecaster) if refits is None else refits.intervals)
    with evaluating(forecaster):
        if refits is None and not is_trained(forecaster):
            intervals = PredictionIntervals()
            least = max(2 * int(seasons.max()), horizon // 2)
            known = {"context_length": context_length, "horizon": horizon, "min_context_length": least}
            intervals.calibrate_on_last_steps(forecaster, data, start, seasons=seasons, **known)
        levels = intervals.choose_levels(levels, num_samples)
        records = ForecastRecords(forecast_columns(levels))
        settings = (context_length, horizon, num_samples, seed)
        make_batch = partial(forecast_batch, data, segments, windows, *settings)
        for batch in BatchLoader(make_batch, len(windows), batch_size):
            batch = batch.to(forecaster.device)
            whole = [(batch, forecaster, intervals)]
            for part, network, own in whole if refits is None else refits.parts(batch):
                record(records, part, network.predict_step(part, 0), own, levels)
    return Backtest(data, Scores.from_records(records.collect(), data, start, seasons, levels))


def _load(forecaster: Any, data: "Source", options: dict[str, Any]) -> SeriesData:
    """Return series, those of a table read as in the fit of the network but for the options."""
    source: Any = ArraySeries(data) if isinstance(data, np.ndarray) else data
    if not isinstance(source, SeriesData | Series):
        from rnn_lightning.tables.table import table_as_in_fit

        source = table_as_in_fit(getattr(forecaster, "data_facts", {}), data, options)
    elif options:
        raise InputError(f"{', '.join(f'`{name}`' for name in options)}: only tables have such options.")
    return source if isinstance(source, SeriesData) else source.load()


def _season_traits(data: SeriesData, ends: Tensor, season: int | None) -> Traits:
    """Return traits of the season given, or of those found in the values before ``ends``.

    Those that the series have already are kept.
    """
    from rnn_lightning.tables.seasons import find_seasons, given_traits

    if season is not None:
        return given_traits((season,), data.lengths)
    if "season" in data.traits:
        return {**given_traits((), data.lengths), **data.traits}
    return find_seasons(data, ends)

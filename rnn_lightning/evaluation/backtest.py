"""A backtest: forecasts from rolling origins, as tables, as a few lines and as a picture."""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from rnn_lightning.data.batches import ForecastBatch, scored_batch
from rnn_lightning.data.series import Series, SeriesData, counted
from rnn_lightning.data.windows import Segments, rolling_windows
from rnn_lightning.errors import InputError
from rnn_lightning.evaluation.baselines import difference_scales
from rnn_lightning.evaluation.calibration import Calibration, last_steps, never_negative
from rnn_lightning.evaluation.scores import NUM_NAMED, Scores
from rnn_lightning.files import atomic_file
from rnn_lightning.metrics import ForecastRecords, crps
from rnn_lightning.pretrained.seasonal import SeasonalNetwork
from rnn_lightning.tables.load_series import RowChunks
from rnn_lightning.tables.seasons import find_seasons

if TYPE_CHECKING:
    import polars as pl
    from matplotlib.figure import Figure

    from rnn_lightning.forecaster import Forecast, Forecaster

NUM_QUANTILES = 99
"""The CRPS of intervals without sampled paths is that of so many equally likely values."""


@dataclass(frozen=True)
class Backtest:
    """Forecasts from rolling origins beside what came and beside the baselines.

    Attributes:
        data: the series.
        origin: ``(forecast,)``, the last known step of each forecast, counted from the start of its series.
        scores: what the forecasts are worth.
    """

    data: SeriesData
    origin: np.ndarray
    scores: Scores

    @classmethod
    def of_records(
        cls, records: ForecastRecords, data: SeriesData, ends: Tensor, season: int, levels: Sequence[int] = ()
    ) -> "Backtest":
        """A backtest of the forecasts that were recorded with ``record``.

        Args:
            records: the forecasts of all devices.
            data: the series.
            ends: ``(series,)``, one past the last row of each series that the scale of its errors is from.
            season: steps of the season of the seasonal naive forecast, 1 for none.
            levels: levels of the intervals in percent, those that were recorded.
        """
        keys, values = (tensor.cpu().numpy() for tensor in records.compute())
        differences = torch.stack(difference_scales(data, ends, season)).numpy()
        scores = Scores(data.ids, data.features, keys[:, 0], values, tuple(levels), season, differences)
        return cls(data, keys[:, 1], scores)

    @property
    def sentence(self) -> str:
        """What the forecasts are worth beside the baselines."""
        return self.scores.sentence

    @property
    def scores_by_series(self) -> "pl.DataFrame":
        """Metrics by series: ``unique_id``, ``metric`` and the forecasters; see ``Scores.by_series``."""
        import polars as pl

        names = [self.data.ids[index] for index in self.scores.present]
        frames = []
        for metric, values in self.scores.by_series.items():
            for number, feature in enumerate(self.data.features):
                columns = dict(zip(self.scores.forecasters, values[:, number].T, strict=False))
                columns |= {
                    "unique_id": names,
                    **self._feature(feature, len(names)),
                    "metric": [metric] * len(names),
                }
                frames.append(pl.DataFrame(columns, nan_to_null=True))
        leading = ["unique_id", *self._feature("", 0), "metric"]
        return pl.concat(frames, how="diagonal").select(*leading, *self.scores.forecasters)

    @property
    def lead_times(self) -> "pl.DataFrame":
        """Metrics by ``lead_time`` in steps over all series; see ``Scores.by_lead_time``."""
        import polars as pl

        frames = []
        for metric, values in self.scores.by_lead_time.items():
            columns = dict(zip(self.scores.forecasters, values.T, strict=False))
            steps = np.arange(1, len(values) + 1)
            frames.append(
                pl.DataFrame(
                    {"lead_time": steps, "metric": [metric] * len(steps), **columns}, nan_to_null=True
                )
            )
        return pl.concat(frames, how="diagonal").select("lead_time", "metric", *self.scores.forecasters)

    @property
    def forecasts(self) -> "pl.DataFrame":
        """Forecasts of known values: ids, ``ds``, ``cutoff``, ``y``, ``rnn``, its bounds, ``naive`` ..."""
        import polars as pl

        from rnn_lightning.tables.calendar import stamp_series

        values, series = self.scores.values, self.scores.series
        horizon, frames = values.shape[1], []
        rows, steps = series.repeat(horizon), (self.origin[:, None] + np.arange(1, horizon + 1)).ravel()
        stamps = stamp_series(self.data.times, rows, steps, 1)
        cutoffs = stamp_series(self.data.times, series.repeat(horizon), self.origin.repeat(horizon), 1)
        names = pl.Series([self.data.ids[index] for index in series], dtype=pl.String)
        ends = [f"rnn-{end}-{level}" for level in self.scores.levels for end in ("lo", "hi")]
        first = values.shape[-1] - len(ends)
        for number, feature in enumerate(self.data.features):
            columns = values[:, :, number].reshape(-1, values.shape[-1]).T
            of = dict(zip(("y", "rnn", "naive", "seasonal_naive", "drift"), columns, strict=False))
            of |= dict(zip(ends, columns[first:], strict=True))
            ids = names.gather(np.arange(len(series)).repeat(horizon))
            frame = pl.DataFrame(
                {"unique_id": ids, **self._feature(feature, len(ids)), "ds": stamps, "cutoff": cutoffs, **of},
                nan_to_null=True,
            )
            order = ["y", "rnn", *ends, *self.scores.forecasters[1:]]
            frames.append(frame.drop_nulls("y").select(*frame.columns[: -len(of)], *order))
        return pl.concat(frames)

    @property
    def figure(self) -> "Figure":
        """Error by lead time beside the baselines, and four forecasts over what came."""
        from rnn_lightning.evaluation.backtest_plot import plot_backtest

        return plot_backtest(self.data, self.origin, self.scores)

    @property
    def text(self) -> str:
        """What there is to know in ten lines, the sentence last."""
        scores = self.scores
        forecasters = scores.forecasters
        lines = [("", "".join(f"{name:>16}" for name in forecasters))]
        for metric, name in (
            ("mase", "MASE"),
            ("rmsse", "RMSSE"),
            ("smape", "sMAPE"),
            ("wape", "WAPE"),
            ("mae", "MAE"),
        ):
            lines.append((name, "".join(f"{value:16.4g}" for value in scores.pooled(metric))))
        for level in scores.levels:
            covered = 100 * scores.covered(level)
            width = scores.pooled(f"width-{level}")[0]
            lines.append(
                (f"{level} %", f"the interval holds {covered:.0f} % of the values; median width {width:.4g}")
            )
        if missing := scores.without_scale:
            named = ", ".join(map(repr, missing[:NUM_NAMED])) + (" ..." if len(missing) > NUM_NAMED else "")
            lines.append(
                ("no scale", f"{counted(len(missing), 'series', 'series')}, without MASE and RMSSE: {named}")
            )
        table = "\n".join(f"{name:9} {line}" for name, line in lines)
        return f"{self._header()}\n{table}\n{self.sentence[:1].upper()}{self.sentence[1:]}."

    def write(self, folder: Path) -> list[Path]:
        """Write ``scores.csv``, ``lead_times.csv``, ``forecasts.csv`` and ``backtest.png`` into a folder."""
        from rnn_lightning.tables.plots import save_picture

        frames = {"scores": self.scores_by_series, "lead_times": self.lead_times, "forecasts": self.forecasts}
        paths = [folder / f"{name}.csv" for name in frames]
        for path, frame in zip(paths, frames.values(), strict=True):
            with atomic_file(path) as file:
                frame.write_csv(file)
        paths.append(folder / "backtest.png")
        save_picture(self.figure, paths[-1])
        return paths

    def _header(self) -> str:
        """How many forecasts of how many series, and what the table below shows."""
        series, horizon = len(self.scores.present), self.scores.values.shape[1]
        text = (
            f"{counted(len(self.origin), 'forecast')} of {counted(horizon, 'step')} from the last origins of "
        )
        text += counted(series, "series", "series")
        several = "" if len(self.data.features) == 1 else " and features"
        medians = series * len(self.data.features) > 1
        return f"test      {text}" + (f"; medians over series{several}" if medians else "")

    def _feature(self, feature: str, rows: int) -> dict[str, list[str]]:
        """A column of the name of the feature, where there are several."""
        return {"feature": [feature] * rows} if len(self.data.features) > 1 else {}


def backtest(
    forecaster: "Forecaster",
    data: Series | SeriesData,
    num_origins: int = 3,
    *,
    horizon: int = 24,
    origin_step: int | None = None,
    context_length: int = 24,
    season: int | None = None,
    num_samples: int | None = None,
    levels: Sequence[int] = (80,),
    seed: int = 0,
    batch_size: int = 256,
) -> Backtest:
    """Forecast from the last origins of every series, and by naive, seasonal naive and drift as well.

    The forecasts are honest where the network was not trained on the last values: fit it with
    ``test_fraction`` above 0, or on other series. The intervals of one that was never trained come from
    forecasts of the values before the first origin.

    Args:
        forecaster: a fitted network.
        data: the series.
        num_origins: forecasts of each series; the last of them leaves one horizon to compare with.
        horizon: steps of a forecast.
        origin_step: steps between two origins; the horizon if None.
        context_length: known steps before each origin that the network is given.
        season: steps of a season, 1 for none; found if None.
        num_samples: sampled paths of each forecast; they give the intervals of a network that was fitted
            without validation.
        levels: levels of the intervals in percent.
        seed: seed of the sampled paths.
        batch_size: forecasts at once.

    Raises:
        InputError: if no series is long enough for a context and one step after it.
    """
    data = data if isinstance(data, SeriesData) else data.load()
    step = origin_step or horizon
    start = torch.maximum(data.offsets[:-1], data.ends - horizon - (num_origins - 1) * step)
    segments = Segments(torch.arange(data.num_series), data.offsets[:-1], start, data.ends)
    windows = rolling_windows(segments, context_length, horizon, num_origins, step)
    if len(windows) == 0:
        raise InputError("no series has a step to forecast after a context of one: give longer ones.")
    season = season or max(find_seasons(data, start), default=1)
    records, training, network = ForecastRecords(), forecaster.training, forecaster.network
    trained_season = int(network.season) if isinstance(network, SeasonalNetwork) else 1
    intervals = deepcopy(forecaster.intervals.state_dict())
    forecaster.eval()
    try:
        if isinstance(network, SeasonalNetwork):
            network.set_season(season)
        with torch.no_grad():
            calibration = _before(data, start, context_length, horizon, season, batch_size)
            has_intervals = forecaster.prepare_intervals(calibration) or num_samples is not None
            levels = levels if has_intervals else ()
            for items in torch.arange(len(windows)).split(batch_size):
                sizes = (context_length, horizon, season, num_samples, seed)
                batch = scored_batch(data, segments, windows, *sizes, items)
                record(records, batch, forecaster.predict_step(batch, 0), forecaster, levels)
    finally:
        forecaster.train(training)
        forecaster.intervals.load_state_dict(intervals)
        if isinstance(network, SeasonalNetwork):
            network.set_season(trained_season)
    return Backtest.of_records(records, data, start, season, levels)


def _before(
    data: SeriesData, ends: Tensor, context_length: int, horizon: int, season: int, batch_size: int
) -> Calibration:
    """What the intervals of a network that was never trained are calibrated by: steps before ``ends``."""
    first = data.offsets[:-1]
    known = Segments(torch.arange(data.num_series), first, first, ends)
    return Calibration(
        data,
        last_steps(first, ends, horizon),
        context_length,
        horizon,
        season,
        never_negative(RowChunks(lambda rows: data.values[rows], known)),
        max(2 * season, horizon // 2),
        batch_size,
    )


def record(
    records: ForecastRecords,
    batch: ForecastBatch,
    forecast: "Forecast",
    forecaster: "Forecaster",
    levels: Sequence[int] = (),
) -> None:
    """Add the forecasts of a batch, see ``Scores.values``; with ``levels`` their intervals.

    Args:
        records: where they are added.
        batch: the batch, with targets.
        forecast: its forecasts.
        forecaster: what made them.
        levels: levels of intervals in percent; they need sampled paths, or a network that has intervals.
    """
    assert batch.baselines is not None
    columns = [batch.target, forecast.point, *batch.baselines.to(forecast.point)]
    if levels:
        ends = forecaster.interval_ends(forecast, levels)
        samples = forecast.samples
        if samples is None and forecast.spread is not None:
            known = (forecast.point, forecast.spread, forecast.floor)
            samples = forecaster.intervals.quantiles(NUM_QUANTILES, *known)
        if ends is None or samples is None:  # an empty batch has no paths
            ends, samples = batch.target.expand(2 * len(levels), *batch.target.shape), batch.target[None]
        columns += [crps(samples, batch.target), *ends]
    records.update(batch.series_index, batch.origin, columns)

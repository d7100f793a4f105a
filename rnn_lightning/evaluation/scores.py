"""Scores of forecasts beside baselines: by series, by lead time, pooled, and a verdict in one sentence."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import polars as pl
import torch
from torch import Tensor

from rnn_lightning.data.series import SeriesData
from rnn_lightning.evaluation.baselines import BASELINES, baseline_forecasts, difference_scales
from rnn_lightning.metrics import gathered_objects, middle_weights

ERROR_METRICS = ("mae", "rmse", "mase", "rmsse", "smape", "wape")
"""Metrics that the network and the baselines have."""

MAX_ERROR_RATIO = 1000.0
"""The largest ratio of two errors that counts in their mean; its inverse is the smallest."""


@dataclass(frozen=True)
class Scores:
    """Metrics of recorded forecasts.

    Each series counts for itself, and each feature of a series. A forecast that is not a finite number has an
    infinite error.

    Attributes:
        table: a row for each forecast, lead time and feature, with the columns ``series`` and ``feature``
            (numbers), ``origin``, ``lead_time``, ``absolute_scale`` and ``squared_scale`` (see
            ``difference_scales``), ``y`` (null where unknown), the forecasters, and with levels ``crps``,
            ``rnn-lo-80``, ``rnn-hi-80`` and so on.
        ids: the names of the series, those of this machine where each has its own.
        features: the names of the features.
        levels: levels of the intervals in percent.
        has_seasons: whether any series has a season; if not, seasonal naive is left out.
    """

    table: pl.DataFrame
    ids: Sequence[str]
    features: Sequence[str]
    levels: tuple[int, ...] = ()
    has_seasons: bool = True

    @classmethod
    def from_records(
        cls,
        records: Mapping[str, Tensor],
        data: SeriesData,
        ends: Tensor,
        seasons: Tensor,
        levels: Sequence[int] = (),
    ) -> "Scores":
        """Score recorded forecasts, and those of the baselines from the same origins.

        Args:
            records: the forecasts, with the columns of ``forecast_columns``.
            data: the series.
            ends: ``(series,)``, one past the last row of each series that error scales are taken from.
            seasons: ``(series,)``, the season of each series; 1 for none.
            levels: levels of the recorded intervals in percent.
        """
        columns = dict(records)
        series, origin = columns.pop("series_index"), columns.pop("origin")
        shape = columns["y"].shape  # (forecast, horizon, feature)
        baselines = baseline_forecasts(data, series, origin, shape[1], seasons)
        absolute, squared = (scale[series][:, None] for scale in difference_scales(data, ends, seasons))
        keys = {"series": series[:, None, None], "feature": torch.arange(shape[2])}
        keys |= {"origin": origin[:, None, None], "lead_time": torch.arange(1, shape[1] + 1)[:, None]}
        scales = {"absolute_scale": absolute, "squared_scale": squared}
        every = keys | scales | columns | dict(zip(BASELINES, baselines, strict=True))
        flat = {name: part.expand(shape).movedim(2, 0).flatten().numpy() for name, part in every.items()}
        table = pl.DataFrame(flat, nan_to_null=True)
        return cls(table, data.ids, data.features, tuple(levels), bool((seasons > 1).any()))

    def of_all_devices(self, first_series: int) -> "Scores":
        """Return the scores of the forecasts of all devices.

        Args:
            first_series: number of series on the machines before this one, where each has its own.
        """
        numbered = self.table.with_columns(pl.col("series") + first_series)
        every = gathered_objects((numbered, self.has_seasons))
        table = pl.concat([part for part, _ in every])
        if len(every) > 1:
            table = table.sort("feature", "series", "origin", "lead_time")
        return replace(self, table=table, has_seasons=any(has for _, has in every))

    @property
    def num_forecasts(self) -> int:
        return self.table.select("series", "origin").n_unique()

    @property
    def horizon(self) -> int:
        return self.table["lead_time"].n_unique()

    @property
    def forecasters(self) -> list[str]:
        """The columns of forecasts: the network, ``rnn``, and the baselines."""
        return ["rnn", *(name for name in BASELINES if self.has_seasons or name != "seasonal_naive")]

    @property
    def reference(self) -> str:
        """The baseline to compare with."""
        return "seasonal_naive" if self.has_seasons else "naive"

    @cached_property
    def by_series(self) -> pl.DataFrame:
        """Metrics by ``feature`` and ``series``, both numbers, and ``metric``: a column for each forecaster.

        The metrics are ``mae``, ``rmse``, ``mase``, ``rmsse``, ``smape`` (from 0 to 1) and ``wape``; with
        intervals also those of the network alone, ``crps``, ``coverage-80`` and ``width-80``. A metric that
        would divide by zero is null.
        """
        groups = self._known.group_by("feature", "series", maintain_order=True)
        expressions = {name: _error_metrics(name) for name in self.forecasters}
        parts = {
            metric: {name: expressions[name][metric] for name in expressions} for metric in ERROR_METRICS
        }
        parts |= {metric: {"rnn": value.mean()} for metric, value in self._interval_values.items()}
        frames = [
            groups.agg(**columns).with_columns(metric=pl.lit(metric)) for metric, columns in parts.items()
        ]
        return pl.concat(frames, how="diagonal")

    @cached_property
    def by_lead_time(self) -> pl.DataFrame:
        """Metrics by ``lead_time`` and ``metric`` over all series that have an error scale.

        ``mase`` is the mean over series and ``median_mase`` the median; ``crps`` and ``width-80`` are in
        units of the error scale of each series, ``coverage-80`` over all values.
        """
        keys = ["feature", "series", "lead_time"]
        mase = {name: _error_metrics(name)["mase"] for name in self.forecasters}
        each = self._known.group_by(keys).agg(**mase).group_by("lead_time")
        columns = pl.col(self.forecasters)
        frames = {"mase": each.agg(columns.mean()), "median_mase": each.agg(columns.median())}
        for metric, value in self._interval_values.items():
            scaled = value if metric.startswith("coverage") else _ratio(value, pl.col("absolute_scale"))
            frames[metric] = self._known.group_by("lead_time").agg(rnn=scaled.mean())
        parts = [frame.sort("lead_time").with_columns(metric=pl.lit(name)) for name, frame in frames.items()]
        return pl.concat(parts, how="diagonal").select("lead_time", "metric", *self.forecasters)

    def pooled(self, metric: str) -> dict[str, float]:
        """Return the median of a metric over series and features by forecaster; NaN where there is none."""
        medians = self._of(metric).select(pl.col(self.forecasters).median())
        return {
            name: np.nan if value is None else value for name, value in medians.row(0, named=True).items()
        }

    def coverage(self, level: int) -> float:
        """Return the fraction of all known values that lie in the interval of a level."""
        share = self._known.select(self._interval_values[f"coverage-{level}"].mean()).item()
        return np.nan if share is None else float(share)

    @cached_property
    def without_scale(self) -> list[str]:
        """The names of the series without MASE, because their known values never change."""
        numbers = self._of("mase").filter(pl.col("rnn").is_null())["series"].unique().sort()
        return [self.ids[number] for number in numbers]

    @cached_property
    def comparison(self) -> tuple[int, int, int]:
        """The numbers of series and features where the network is better, where it is equal, and of all."""
        own, other = (self._of("mae")[name].to_numpy() for name in ("rnn", self.reference))
        equal = np.isclose(own, other, rtol=1e-6, atol=0)
        return int(((own < other) & ~equal).sum()), int(equal.sum()), len(own)

    @cached_property
    def relative_error(self) -> float:
        """The ratio of the MAE to the reference: the geometric mean over the middle half of all series."""
        own, other = (self._of("mae")[name].to_numpy() for name in ("rnn", self.reference))
        if len(own) == 0:
            return np.nan
        ratios = np.ones(len(own))
        np.divide(own, np.maximum(other, np.finfo(float).tiny), out=ratios, where=own != other)
        logs = np.sort(np.log(ratios.clip(1 / MAX_ERROR_RATIO, MAX_ERROR_RATIO)))
        return float(np.exp((logs * middle_weights(len(logs)).numpy()).sum()))

    @property
    def verdict(self) -> str:
        """How the forecasts compare with the reference, and with the best baseline where that is another."""
        better, equal, total = self.comparison
        if total == 0:
            return "nothing is known to compare the forecasts with"
        metric = "mase" if np.isfinite(list(self.pooled("mase").values())).any() else "mae"
        medians = self.pooled(metric)
        shown = {name: _digits(value) for name, value in medians.items()}
        name, own, other = _words(self.reference), shown["rnn"], shown[self.reference]
        medians_worse, ratio = medians["rnn"] > medians[self.reference], f"{self.relative_error:.2f}"
        is_equal = own == other and (total == 1 or ratio == "1.00")
        worse = medians_worse if ratio == "1.00" else not self.relative_error <= 1
        text = f"{'as good as' if is_equal else 'worse than' if worse else 'better than'} {name}"
        if total > 1:
            rows = "series" if len(self.features) == 1 else "series and features"
            count = total - better - equal if worse and not is_equal else better
            text += f" on average, better on {count}" if is_equal else f" on {count}"
            text += f" of {total} {rows}" + (f", as good on {equal}" if equal else "")
            if ratio != "1.00" and (2 * count <= total or own == other or medians_worse != worse):
                text += f", with errors {ratio} times as large on average"
        text += f"; {metric.upper()} {own}" + (" for both" if own == other else f" against {other}")
        best = min(self.forecasters[1:], key=lambda each: np.nan_to_num(medians[each], nan=np.inf))
        if medians[best] < medians[self.reference] and shown[best] != other:
            text += f", and {shown[best]} for {_words(best)}, the best baseline"
        return text

    @cached_property
    def _known(self) -> pl.DataFrame:
        """The rows whose value is known; a forecast that is missing is infinite."""
        columns = pl.col(self.forecasters).cast(pl.Float64).fill_null(np.inf)
        return self.table.filter(pl.col("y").is_not_null()).with_columns(
            columns, pl.col("y").cast(pl.Float64)
        )

    @property
    def _interval_values(self) -> dict[str, pl.Expr]:
        """Values by row whose mean is a metric of the intervals."""
        values = {"crps": pl.col("crps").cast(pl.Float64)} if self.levels else {}
        for level in self.levels:
            low, high = (pl.col(f"rnn-{end}-{level}").cast(pl.Float64) for end in ("lo", "hi"))
            is_inside = pl.col("y").is_between(low, high).fill_null(False)
            values |= {f"coverage-{level}": is_inside.cast(pl.Float64), f"width-{level}": high - low}
        return values

    def _of(self, metric: str) -> pl.DataFrame:
        return self.by_series.filter(pl.col("metric") == metric)


def _error_metrics(forecaster: str) -> dict[str, pl.Expr]:
    """Return the metrics of a group of rows of one series and feature."""
    value, truth = pl.col(forecaster), pl.col("y")
    error = (value - truth).abs()
    mae, mse = error.mean(), error.pow(2).mean()
    relative = (
        pl.when(error.is_infinite()).then(1.0).when(error > 0).then(error / (value.abs() + truth.abs()))
    )
    return {
        "mae": mae,
        "rmse": mse.sqrt(),
        "mase": _ratio(mae, pl.col("absolute_scale").first()),
        "rmsse": _ratio(mse, pl.col("squared_scale").first()).sqrt(),
        "smape": relative.otherwise(0.0).mean(),
        "wape": _ratio(error.sum(), truth.abs().sum()),
    }


def _ratio(above: pl.Expr, below: pl.Expr) -> pl.Expr:
    """Return a ratio, null where the denominator is zero or unknown."""
    return pl.when(below > 0).then(above / below)


def _digits(value: float) -> str:
    """Return two decimals, and two significant digits of what is small."""
    return f"{value:.2f}" if not 0 < value < 0.1 else f"{value:.2g}"


def _words(forecaster: str) -> str:
    return forecaster.replace("_", " ")

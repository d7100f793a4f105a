"""Prediction intervals in an ONNX graph, the twin of ``evaluation.PredictionIntervals``."""

from typing import NamedTuple

import numpy as np

from rnn_lightning.onnx.graph import Value


class IntervalTable(NamedTuple):
    """The widths of intervals as plain numbers, see ``PredictionIntervals.table``.

    Attributes:
        levels: levels in percent.
        half_widths: ``(level, lead time)`` in error scales, constant beyond the last one.
        season: the season in steps of series whose season is not given.
        nonnegative: ``(feature,)``, whether values are never negative.
        relative: ``(feature,)``, the usual change of a new series relative to its magnitude, NaN if unknown.
        enough_changes: least and most changes from which the error scale of a series is its own alone, a
            season of them.
        min_relative_scale: least error scale relative to the magnitude of a series.
    """

    levels: list[int]
    half_widths: np.ndarray
    season: int
    nonnegative: np.ndarray
    relative: np.ndarray
    enough_changes: tuple[int, int]
    min_relative_scale: float


def interval_bounds(forecast: Value, inputs: dict[str, Value], table: IntervalTable) -> dict[str, Value]:
    """Return the lower and upper bounds of each level, each of the shape of the forecast."""
    graph, context, bounds = forecast.graph, inputs["context"], dict[str, Value]()
    season = inputs.get("season", graph.constant(np.array([table.season])))
    scale = _error_scale(context.cast("DOUBLE"), season.reshape(-1, 1, 1), table)
    floor, is_common = _floor(context, table.nonnegative)
    leads = graph.op("Range", np.array(0), graph.op("Squeeze", inputs["horizon"]), np.array(1))
    leads = graph.op("Min", leads, np.array(table.half_widths.shape[1] - 1))
    for level, widths in zip(table.levels, table.half_widths, strict=True):
        half = graph.op("Gather", graph.constant(widths.astype(np.float32)[:, None]), leads, axis=0)
        low = graph.op("Where", is_common, floor, forecast - half * scale)
        for name, bound in (("lo", low), ("hi", forecast + half * scale)):
            # An unknown forecast has no bounds, whatever a runtime makes of the maximum of NaN.
            limited = graph.op("Where", bound.below(floor), floor, bound)
            bounds[f"{name}-{level}"] = graph.op("Where", forecast.is_nan(), forecast, limited)
    return bounds


def _error_scale(context: Value, season: Value, table: IntervalTable) -> Value:
    """Return the unit of the errors ``(batch, 1, feature)``, see ``interval_widths.error_scale``."""
    graph = context.graph
    scale, of_season = _mean_change(context, np.ones((1, 1, 1), np.int64)), _mean_change(context, season)
    is_smaller = graph.op("Or", of_season.below(scale), scale.is_nan())
    has_season = graph.op("And", season.above(np.array(1)), graph.op("Not", of_season.is_nan()))
    scale = graph.op("Where", graph.op("And", has_season, is_smaller), of_season, scale)
    magnitude = graph.op("Abs", context).mean_known(1).or_where_nan(np.array(0.0))
    least, scale = magnitude * np.array(table.min_relative_scale), scale.or_where_nan(magnitude)
    few, most = (np.array(float(number)) for number in table.enough_changes)
    enough = graph.op("Max", graph.op("Min", season.cast("DOUBLE"), most), few)
    part = (context - context.before(np.ones((1, 1, 1), np.int64))).count_known(1) / enough
    typical = magnitude * np.nan_to_num(table.relative.astype(np.float64))
    mixed = graph.op("Pow", graph.op("Max", scale, least), part)
    mixed = mixed * graph.op("Pow", typical, graph.op("Sub", np.array(1.0), part))
    takes_part = graph.op("And", part.below(np.array(1.0)), typical.above(np.array(0.0)))
    return graph.op("Max", graph.op("Where", takes_part, mixed, scale), least).cast("FLOAT")


def _mean_change(context: Value, lag: Value | np.ndarray) -> Value:
    """Return the mean absolute deviation of changes over ``lag`` steps, ``(batch, 1, feature)``, or NaN."""
    changes = context - context.before(lag)
    has_trend = changes.count_known(1).above(np.array(2.0))
    mean = context.graph.op("Where", has_trend, changes.mean_known(1), np.array(0.0))
    return context.graph.op("Abs", changes - mean).mean_known(1)


def _floor(context: Value, nonnegative: np.ndarray) -> tuple[Value, Value]:
    """Return the lower limit, and whether most values equal it, see ``interval_widths.floor_of``."""
    graph = context.graph
    lowest = graph.op("ReduceMin", context.or_where_nan(0.0), axes=[1])  # (batch, 1, feature)
    zeros = graph.op("Equal", context, 0.0).cast("DOUBLE").sum(1)
    known = context.count_known(1)
    has_most, has_half = (zeros + zeros).above(known), (zeros + zeros).reaches(known)
    is_limited = graph.op("And", lowest.reaches(0.0), graph.op("Or", has_most, nonnegative))
    floor = graph.op("Where", is_limited, np.float32(0.0), np.float32(-np.inf))
    is_common = graph.op("And", has_half, known.above(np.array(0.0)))
    return floor, graph.op("And", is_limited, is_common)

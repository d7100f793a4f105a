"""Checks of a forecast before it starts, and of its values."""

from collections.abc import Sequence
from datetime import MAXYEAR
from typing import Any

import numpy as np
import torch

from rnn_lightning.data.windows import values_at
from rnn_lightning.errors import InputError, counted, quoted
from rnn_lightning.tables.calendar import stamp_series, steps_that_exist
from rnn_lightning.tables.forecast_file import ForecastTable
from rnn_lightning.tables.forecast_options import ForecastColumns
from rnn_lightning.tables.summary import remarks
from rnn_lightning.tables.table_data import TableData

RECENT_STEPS = 1000
"""Number of steps at the end of a series that its forecast is compared with."""

MAX_DEVIATIONS = 20.0
"""Covariates that are farther from the mean of the fit are pointed out."""

MAX_EXCESS = 10.0
"""A forecast may leave the range of the recent steps by this multiple of the range; by more if it is long."""


def check_forecast(
    data: TableData, columns: ForecastColumns, horizon: int, validated_horizon: int
) -> list[str]:
    """Return notes on a forecast to be made; raise InputError if its table would be invalid."""
    names = [data.id_column, data.time_column, *columns.names(data.features)]
    if duplicates := [name for name in names if names.count(name) > 1]:
        raise InputError(
            f"the forecast would have two columns {duplicates[0]!r}: rename that column of your table."
        )
    closed = closed_series(data, horizon)
    last = stamp_series(data.times, range(data.num_series), (data.lengths + horizon - 1).tolist(), 1)
    if last.dtype.is_temporal():
        years = last.dt.year()
        index = int(years.arg_max() or 0)
        if years[index] > MAXYEAR:
            raise InputError(
                f"`horizon` {horizon} takes series {data.ids[index]!r} past the year {MAXYEAR}: lower it."
            )
    notes = [*remarks(data), *notes_on_early_ends(data)]
    notes += note_if_horizon_not_validated(validated_horizon, horizon)
    if closed:
        which = f"{counted(len(closed), 'series')}, such as {quoted(data.ids[closed[0]])}"
        notes.append(f"Note: `horizon` {horizon} reaches no step of {which}: no row is written for them.")
    return notes


def closed_series(data: TableData, horizon: int) -> list[int]:
    """Return the series that cannot have values over the whole horizon, such as one Sunday.

    Raises:
        InputError: if none of the series can.
    """
    exist = steps_that_exist(data.times, range(data.num_series), data.lengths, horizon)
    if exist is None:
        return []
    if not exist.any():
        rule = f"`horizon` {horizon} reaches no step at which a series ever has values"
        raise InputError(f"{rule}: raise it, or set `every_step`.")
    return np.flatnonzero(~exist.reshape(-1, horizon).any(1)).tolist()


def notes_on_other_series(data: TableData, ids_of_fit: Sequence[str]) -> list[str]:
    """Return notes on series of the fit that are gone and on new ones; none if the fit's are unknown."""
    if not ids_of_fit:
        return []
    gone, new = set(ids_of_fit) - set(data.ids), set(data.ids) - set(ids_of_fit)
    notes = []
    for ids, what in ((gone, "of the fit {} not in this table"), (new, "{} new since the fit")):
        which, first = what.format("is" if len(ids) == 1 else "are"), quoted(min(ids, default=""))
        if len(ids) == 1:
            notes.append(f"Note: series {first} {which}.")
        elif ids:
            notes.append(f"Note: {len(ids):,} series {which}, such as {first}.")
    return notes


def notes_on_early_ends(data: TableData) -> list[str]:
    """Return a note on the fewer than half of the series that end before the others do."""
    last = stamp_series(data.times, range(data.num_series), (data.lengths - 1).tolist(), 1)
    if not last.dtype.is_temporal():
        return []
    early = np.flatnonzero((last < last.max()).to_numpy())
    if not 0 < len(early) < data.num_series / 2:
        return []
    first = int(early[0])
    which = f"{quoted(data.ids[first])} ({last[first]!s})"
    if len(early) > 1:
        which = f"{len(early):,} series, such as {which},"
    return [
        f"Note: the forecast of {which} begins where its values end, before the last date {last.max()!s}."
    ]


def note_if_horizon_not_validated(validated_horizon: int, horizon: int) -> list[str]:
    """Return a note if the horizon is longer than any validated forecast."""
    if not 0 < validated_horizon < horizon:
        return []
    return [
        f"Note: forecasts were validated up to {counted(validated_horizon, 'step')} ahead, and `horizon` is "
        f"{horizon}: beyond that, accuracy and intervals are a guess."
    ]


def notes_on_long_seasons(data: TableData, network: Any) -> list[str]:
    """Return a note on seasons that the bundled network does not try by itself, as they take long."""
    season, candidates = data.traits.get("season"), data.traits.get("seasons")
    if season is None or candidates is None or not hasattr(network, "ignores_covariates"):
        return []
    is_year = (season - data.traits["year"]).abs() < 1  # which is taken as harmonics
    is_untried = (candidates > 0).any(1) & (candidates < season[:, None]).all(1) & ~is_year
    if not bool(is_untried.any()):
        return []
    longest = int(season[is_untried].max())
    return [
        f"Note: a season of {longest:,} steps is too long to be tried by default: `season` {longest} uses "
        "it, and takes longer."
    ]


def notes_on_covariates(data: TableData, network: Any, horizon: int) -> list[str]:
    """Return notes on covariates that the network ignores, or that are far from those of the fit ahead."""
    inputs = [*data.covariate_names, *data.past_names, *data.static_names]
    if getattr(network, "ignores_covariates", False) and (inputs or data.holidays):
        names = ", ".join([*map(repr, inputs), *(["holidays"] if data.holidays else [])])
        until = "it is fitted to them, and the fit finds that they help"
        return [f"Note: the bundled network ignores covariates ({names}) until {until}."]
    scale = getattr(network, "covariate_scale", None)
    if data.covariates is None or scale is None:
        return []
    rows = data.ends[:, None] + torch.arange(horizon)
    known = rows[rows < data.offsets[1:, None]]
    ahead, notes = data.covariates[known], []  # (row, covariate)
    for column, name in enumerate(data.covariate_names):
        mean, deviation = float(scale.mean[column]), float(scale.scale[column])
        far = ahead[(ahead[:, column] - mean).abs() > MAX_DEVIATIONS * deviation, column]
        if len(far):
            usual = f"{mean:.3g} with a deviation of {deviation:.3g}"
            extreme = f"{float(far[(far - mean).abs().argmax()]):.6g}"
            notes.append(f"Note: the covariate {name!r} is {extreme} ahead and was {usual} in the fit.")
    return notes


def warn_if_diverged(data: TableData, table: ForecastTable) -> list[str]:
    """Return a warning if the point forecast of a series leaves the range of its recent steps by far."""
    found = []
    for chunk in table.chunks(max(RECENT_STEPS, table.horizon)):
        items = torch.arange(chunk.start, chunk.stop)
        begin, end = data.offsets[items], data.ends[items]
        num_steps = min(RECENT_STEPS, int((end - begin).max()))
        rows = end[:, None] + torch.arange(-num_steps, 0)  # (series, time)
        recent = values_at(data, rows, begin, end).double().numpy()  # (series, time, feature)
        lowest, highest = np.fmin.reduce(recent, 1), np.fmax.reduce(recent, 1)  # (series, feature)
        size = np.where(highest == 0, 1.0, np.abs(highest))  # of a constant, which has no range
        spread = np.where(highest > lowest, highest - lowest, size)
        length = (end - begin).clamp_max(num_steps).double().numpy()[:, None]
        allowed = MAX_EXCESS * spread * (1 + table.horizon / length)
        point = table.rows(chunk)[..., 0].astype(np.float64)  # (series, horizon, feature)
        exist = steps_that_exist(data.times, chunk, data.lengths[chunk.start : chunk.stop], table.horizon)
        if exist is not None:
            point[~exist.reshape(point.shape[:2])] = np.nan
        low, high = np.fmin.reduce(point, 1), np.fmax.reduce(point, 1)
        for row, feature in np.argwhere((low < lowest - allowed) | (high > highest + allowed)):
            history = f"{lowest[row, feature]:.3g} to {highest[row, feature]:.3g}"
            forecast = f"{low[row, feature]:.3g} to {high[row, feature]:.3g}"
            name, column = data.ids[chunk[row]], data.features[feature]
            found.append(f"{name!r} ({column}: history {history}, forecast {forecast})")
    if not found:
        return []
    others = f" and {len(found) - 3:,} others" if len(found) > 3 else ""
    return [
        f"Warning: the forecast leaves the range of the history by far: {', '.join(found[:3])}{others}. The "
        "network has diverged or was not trained for such series: lower `learning_rate` or train longer."
    ]

"""What the data are like, to look at before a fit: numbers as plain types, and as text."""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

import numpy as np

from rnn_lightning.data.batches import incomplete_series
from rnn_lightning.data.series import SeriesData, counted
from rnn_lightning.tables.table_data import TableData, as_table_data, count_unknown

NUM_NAMED = 5
"""Number of series that are named where many are of a kind."""

Splits = Mapping[str, Mapping[str, int]]


def summarize(
    data: SeriesData, splits: Splits, horizon: int | None = None, seasons: Sequence[int] = ()
) -> dict[str, Any]:
    """The numbers a user should see of data and splits, in types that JSON has.

    Args:
        data: the series.
        splits: of ``train`` the numbers ``series``, ``steps``, ``windows``, ``window_length``,
            ``padded_series`` and ``unused_series``; of ``val`` and ``test``, where there are such,
            ``series``, ``steps``, ``forecasts`` and ``horizon``.
        horizon: the horizon that was asked for, where those of ``val`` and ``test`` may be shorter.
        seasons: the seasons in steps.
    """
    data = as_table_data(data)
    summary: dict[str, Any] = {
        "series": data.num_series,
        "steps": int(data.lengths.sum()),
        "length": _lengths(data),
        "features": list(data.features),
        "covariates": list(data.covariate_names),
        "calendar": list(data.calendar_names),
        "time": _times(data),
        "seasons": list(seasons),
        "missing": _missing(data),
        "splits": {name: dict(numbers) for name, numbers in splits.items()},
        "left_out": dict(data.left_out),
        "notes": list(data.notes),
    }
    if data.covariate_names:
        ahead = data.offsets.diff() - data.lengths
        summary["known_ahead"] = {"shortest": int(ahead.min()), "longest": int(ahead.max())}
    if horizon is not None:
        summary["horizon"] = horizon
        incomplete = incomplete_series(data, horizon).tolist()
        names = [data.ids[index] for index in incomplete[:NUM_NAMED]]
        summary["incomplete"] = {"series": len(incomplete), "ids": names}
    return summary


def as_text(summary: Mapping[str, Any]) -> str:
    """The summary as a block of short lines."""
    lines = [
        ("data", _size_text(summary)),
        ("columns", _columns_text(summary)),
        ("time", _time_text(summary["time"])),
        ("season", _season_text(summary["seasons"])),
    ]
    lines.append(("missing", _missing_text(summary["missing"])))
    for name, numbers in summary["splits"].items():
        held_out = name != "train"
        text = _forecasts_text(name, numbers, summary.get("horizon")) if held_out else _train_text(numbers)
        lines.append((name, text))
    if summary["left_out"]:
        lines.append(("left out", _left_out_text(summary["left_out"])))
    lines += [("note", note) for note in summary["notes"]]
    if summary.get("incomplete", {}).get("series"):
        lines.append(("note", _incomplete_text(summary)))
    return "\n".join(f"{name:9} {text}" for name, text in lines)


def remarks(data: SeriesData) -> list[str]:
    """What a user of a forecast should know of the data, a line each."""
    data = as_table_data(data)
    left_out = [f"Left out: {_left_out_text(data.left_out)}"] if data.left_out else []
    return left_out + [f"Note: {note}" for note in data.notes]


def _lengths(data: SeriesData) -> dict[str, Any]:
    lengths = data.lengths.numpy()
    shortest = np.flatnonzero(lengths == lengths.min())
    return {
        "shortest": int(lengths.min()),
        "median": float(np.median(lengths)),
        "longest": int(lengths.max()),
        "num_shortest": len(shortest),
        "shortest_ids": [data.ids[index] for index in shortest[:NUM_NAMED]],
    }


def _times(data: TableData) -> dict[str, Any]:
    from rnn_lightning.tables.calendar import stamp_series

    intervals = Counter(
        float(f"{interval:.9g}") if isinstance(interval, float) else interval
        for interval in data.times.frequencies
    )
    everything = range(data.num_series)
    first = stamp_series(data.times, everything, [0] * data.num_series, 1).min()
    last = stamp_series(data.times, everything, (data.lengths - 1).tolist(), 1).max()
    return {
        "column": data.time_column,
        "intervals": [
            {"interval": interval, "series": number} for interval, number in intervals.most_common()
        ],
        "first": _plain(first),
        "last": _plain(last),
    }


def _missing(data: SeriesData) -> dict[str, Any]:
    by_series, by_feature = count_unknown(data.values, data.offsets, data.ends)
    num_steps, num_values = int(data.lengths.sum()), data.lengths.numpy() * len(data.features)
    worst = np.argsort(-by_series / num_values, kind="stable")[:NUM_NAMED].tolist()
    return {
        **_share(by_series.sum(), num_values.sum()),
        "series": int((by_series > 0).sum()),
        "by_feature": {
            name: _share(number, num_steps) for name, number in zip(data.features, by_feature, strict=True)
        },
        "worst": [
            {"id": data.ids[index], **_share(by_series[index], num_values[index])}
            for index in worst
            if by_series[index]
        ],
    }


def _share(part: Any, whole: Any) -> dict[str, Any]:
    percent = float(f"{100 * int(part) / int(whole):.4g}")
    return {"values": int(part), "percent": percent if part == whole else min(percent, 99.99)}


def _percent(share: Mapping[str, Any]) -> str:
    """Two digits, more where they would make it 100."""
    percent = share["percent"]
    digits = np.format_float_positional(percent, precision=2, fractional=False, unique=False, trim="-")
    return f"{percent if digits == '100' else digits} %" if percent < 100 else "100 %"


def _plain(stamp: Any) -> Any:
    return stamp.isoformat() if isinstance(stamp, date) else stamp


def _size_text(summary: Mapping[str, Any]) -> str:
    length, count = summary["length"], counted(summary["series"], "series", "series")
    text = f"{count}, {counted(summary['steps'], 'step')}"
    if summary["series"] == 1:
        return text
    if length["shortest"] == length["longest"]:
        return f"{text}: {length['longest']:,} each"
    named = _named([repr(name) for name in length["shortest_ids"]], length["num_shortest"])
    return f"{text}: {length['shortest']:,} ({named}) to {length['longest']:,}, median {length['median']:,g}"


def _columns_text(summary: Mapping[str, Any]) -> str:
    kinds = [kind for kind in ("features", "covariates", "calendar") if summary[kind]]
    parts = {kind: f"{kind} {_named(summary[kind], len(summary[kind]), 8)}" for kind in kinds}
    if "known_ahead" in summary:
        ahead = summary["known_ahead"]
        longest = f" to {ahead['longest']:,}" if ahead["longest"] > ahead["shortest"] else ""
        parts["covariates"] += f" (known {ahead['shortest']:,}{longest} steps ahead)"
    return "; ".join(parts.values())


def _time_text(times: Mapping[str, Any]) -> str:
    intervals = times["intervals"]
    if len(intervals) == 1:
        every = intervals[0]["interval"]
    else:
        shown = [
            f"{each['interval']} ({counted(each['series'], 'series', 'series')})"
            for each in intervals[:NUM_NAMED]
        ]
        every = _named(shown, len(intervals))
    return f"{times['column']} from {times['first']} to {times['last']}, every {every}"


def _season_text(seasons: Sequence[int]) -> str:
    return " and ".join(counted(season, "step") for season in seasons) or "none"


def _missing_text(missing: Mapping[str, Any]) -> str:
    if missing["values"] == 0:
        return "nothing"
    text = f"{counted(missing['values'], 'value')} ({_percent(missing)}) in {missing['series']:,} series"
    if len(missing["by_feature"]) > 1:
        features = sorted(missing["by_feature"].items(), key=lambda item: -item[1]["values"])
        gaps = [f"{name} {each['values']:,} ({_percent(each)})" for name, each in features if each["values"]]
        text += f": {_named(gaps[:NUM_NAMED], len(gaps))}"
    worst = [f"{each['id']!r} {each['values']:,} ({_percent(each)})" for each in missing["worst"][:3]]
    return f"{text}; most in {', '.join(worst)}"


def _train_text(numbers: Mapping[str, int]) -> str:
    text = f"{counted(numbers['series'], 'series', 'series')}, {counted(numbers['steps'], 'step')}, "
    text += f"{counted(numbers['windows'], 'window')} of {numbers['window_length']:,} steps"
    if numbers["padded_series"]:
        text += f"; {counted(numbers['padded_series'], 'series', 'series')} shorter than a window, padded"
    if numbers["unused_series"]:
        text += f"; {counted(numbers['unused_series'], 'series', 'series')} unused"
    return text


def _forecasts_text(name: str, numbers: Mapping[str, int], horizon: int | None) -> str:
    if numbers["steps"] == 0:
        return f"nothing: raise `{name}_fraction` to hold values out"
    text = f"{counted(numbers['series'], 'series', 'series')}, {counted(numbers['steps'], 'step')}, "
    if numbers["forecasts"] == 0:
        return f"{text}too few for a forecast after a context"
    text += f"{counted(numbers['forecasts'], 'forecast')} of {counted(numbers['horizon'], 'step')}"
    if horizon is not None and numbers["horizon"] < horizon:
        text += f", fewer than `horizon` {horizon:,}: no held-out part is longer"
    return text


def _incomplete_text(summary: Mapping[str, Any]) -> str:
    """Which series predict will not forecast unless more covariates are given."""
    number, ids = summary["incomplete"]["series"], summary["incomplete"]["ids"]
    ahead = counted(summary["horizon"], "step")
    if number == summary["series"]:
        return f"predict needs covariates {ahead} ahead, in rows after the last value: no series has them yet"
    which = f"{counted(number, 'series', 'series')}, {_named([*map(repr, ids)], number)}"
    return f"predict leaves out {which}, unless covariates {ahead} ahead follow their last value"


def _left_out_text(left_out: Mapping[str, str]) -> str:
    """How many series, and the first ones by their reasons."""
    first: dict[str, list[str]] = {}
    for name, reason in list(left_out.items())[:NUM_NAMED]:
        first.setdefault(reason, []).append(repr(name))
    shown = [f"{', '.join(names)} ({reason.rstrip('.')})" for reason, names in first.items()]
    others = f" and {len(left_out) - NUM_NAMED:,} others" if len(left_out) > NUM_NAMED else ""
    return f"{len(left_out):,} series: {', '.join(shown)}{others}"


def _named(names: Sequence[str], number: int, most: int = NUM_NAMED) -> str:
    """The first names and the number of the others."""
    others = number - min(len(names), most)
    return ", ".join(names[:most]) + (f" and {others:,} others" if others else "")

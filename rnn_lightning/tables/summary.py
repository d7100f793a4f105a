"""A summary of the data, to look at before a fit: as plain numbers, and as text."""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

import numpy as np
import torch

from rnn_lightning.data.series import SeriesData
from rnn_lightning.errors import counted
from rnn_lightning.tables.incomplete import incomplete_series
from rnn_lightning.tables.table_data import TableData, as_table_data, count_unknown

MAX_NAMED = 5
"""Number of series to name where there may be many of a kind."""

Splits = Mapping[str, Mapping[str, int]]


def summarize(data: SeriesData, splits: Splits, horizon: int | None = None) -> dict[str, Any]:
    """Return the numbers of a data summary, in types that JSON has.

    Args:
        data: the series.
        splits: for ``train`` the numbers ``series``, ``steps``, ``windows``, ``window_length``,
            ``padded_series`` and ``unused_series``; for ``val`` and ``test``, if these splits exist,
            ``series``, ``steps``, ``forecasts`` and ``horizon``.
        horizon: the requested horizon; those of ``val`` and ``test`` may be shorter.
    """
    data = as_table_data(data)
    summary: dict[str, Any] = {
        "series": data.num_series,
        "steps": int(data.lengths.sum()),
        "length": _summarize_lengths(data),
        "features": list(data.features),
        "covariates": list(data.covariate_names),
        "calendar": [*data.calendar_names, *([f"holidays {data.holidays}"] if data.holidays else [])],
        "time": _summarize_times(data),
        "seasons": summarize_seasons(data),
        "missing": _summarize_missing(data),
        "splits": {name: dict(numbers) for name, numbers in splits.items()},
        "left_out": dict(data.left_out),
        "notes": list(data.notes),
    }
    more = {"past covariates": data.past_names, "static": data.static_names}
    summary |= {kind: list(names) for kind, names in more.items() if names}
    if data.covariate_names:
        ahead = data.offsets.diff() - data.lengths
        summary["known_ahead"] = {"shortest": int(ahead.min()), "longest": int(ahead.max())}
    if horizon is not None:
        incomplete = incomplete_series(data, horizon).tolist()
        names = [data.ids[index] for index in incomplete[:MAX_NAMED]]
        summary |= {"horizon": horizon, "incomplete": {"series": len(incomplete), "ids": names}}
    return summary


def as_text(summary: Mapping[str, Any]) -> str:
    """Return a data summary as a block of short lines."""
    lines = [
        ("data", _size_text(summary)),
        ("columns", _columns_text(summary)),
        ("time", _time_text(summary["time"])),
        ("season", seasons_text(summary["seasons"])),
        ("missing", _missing_text(summary["missing"])),
    ]
    for name, numbers in summary["splits"].items():
        lines.append((name, _split_text(name, numbers, summary.get("horizon"))))
    if summary["left_out"]:
        lines.append(("left out", _left_out_text(summary["left_out"])))
    lines += [("note", note) for note in summary["notes"]]
    if summary.get("incomplete", {}).get("series"):
        lines.append(("note", _incomplete_text(summary)))
    return "\n".join(f"{name:9} {text}" for name, text in lines)


def remarks(data: SeriesData) -> list[str]:
    """Return what to know about the data of a forecast, a line each."""
    data = as_table_data(data)
    left_out = [f"Left out: {_left_out_text(data.left_out)}"] if data.left_out else []
    return left_out + [f"Note: {note}" for note in data.notes]


def summarize_seasons(data: SeriesData) -> list[dict[str, int]]:
    """Return how many series have which season in steps, 1 for none, the most common one first."""
    counts = Counter(data.traits.get("season", torch.ones(data.num_series, dtype=torch.long)).tolist())
    return [{"season": season, "series": count} for season, count in counts.most_common()]


def seasons_text(seasons: Sequence[Mapping[str, int]]) -> str:
    """Return a text such as ``12 steps (142 series), none (2 series)``."""
    texts = [counted(each["season"], "step") if each["season"] > 1 else "none" for each in seasons]
    if len(seasons) > 1:
        pairs = zip(texts, seasons, strict=True)
        texts = [f"{text} ({counted(each['series'], 'series')})" for text, each in pairs]
    return _names_text(texts, len(texts))


def _summarize_lengths(data: SeriesData) -> dict[str, Any]:
    lengths = data.lengths.numpy()
    shortest = np.flatnonzero(lengths == lengths.min())
    return {
        "shortest": int(lengths.min()),
        "median": float(np.median(lengths)),
        "longest": int(lengths.max()),
        "num_shortest": len(shortest),
        "shortest_ids": [data.ids[index] for index in shortest[:MAX_NAMED]],
    }


def _summarize_times(data: TableData) -> dict[str, Any]:
    from rnn_lightning.tables.calendar import stamp_series

    rounded = (float(f"{each:.9g}") if isinstance(each, float) else each for each in data.times.frequencies)
    indices, last_steps = range(data.num_series), (data.lengths - 1).tolist()
    first: Any = stamp_series(data.times, indices, [0] * data.num_series, 1).min()
    last: Any = stamp_series(data.times, indices, last_steps, 1).max()
    return {
        "column": data.time_column,
        "frequencies": [
            {"frequency": each, "series": count} for each, count in Counter(rounded).most_common()
        ],
        "first": first.isoformat() if isinstance(first, date) else first,
        "last": last.isoformat() if isinstance(last, date) else last,
    }


def _summarize_missing(data: SeriesData) -> dict[str, Any]:
    by_series, by_feature = count_unknown(data.values, data.offsets, data.ends)
    num_steps, num_values = int(data.lengths.sum()), data.lengths.numpy() * len(data.features)
    order = np.argsort(-by_series / num_values, kind="stable")[:MAX_NAMED].tolist()
    worst = [index for index in order if by_series[index]]
    return {
        **_share(by_series.sum(), num_values.sum()),
        "series": int((by_series > 0).sum()),
        "by_feature": dict(
            zip(data.features, (_share(count, num_steps) for count in by_feature), strict=True)
        ),
        "worst": [{"id": data.ids[index], **_share(by_series[index], num_values[index])} for index in worst],
    }


def _share(part: Any, whole: Any) -> dict[str, Any]:
    """Return a number of values and its percentage, which is 100 only for all of them."""
    percent = 100 * int(part) / int(whole)
    return {"values": int(part), "percent": float(f"{percent if part == whole else min(percent, 99.9):.3g}")}


def _size_text(summary: Mapping[str, Any]) -> str:
    length = summary["length"]
    text = f"{counted(summary['series'], 'series')}, {counted(summary['steps'], 'step')}"
    if summary["series"] == 1:
        return text
    if length["shortest"] == length["longest"]:
        return f"{text}; {length['longest']:,} steps each"
    shortest = _names_text([*map(repr, length["shortest_ids"])], length["num_shortest"])
    text += f"; lengths {length['shortest']:,} ({shortest}) to {length['longest']:,}"
    return f"{text}, median {length['median']:,g}"


def _columns_text(summary: Mapping[str, Any]) -> str:
    all_kinds = ("features", "covariates", "past covariates", "static", "calendar")
    kinds = [kind for kind in all_kinds if summary.get(kind)]
    parts = {kind: f"{kind} {_names_text(summary[kind], len(summary[kind]), 8)}" for kind in kinds}
    if "known_ahead" in summary:
        ahead = summary["known_ahead"]
        longest = f" to {ahead['longest']:,}" if ahead["longest"] > ahead["shortest"] else ""
        parts["covariates"] += f" (known {ahead['shortest']:,}{longest} steps ahead)"
    return "; ".join(parts.values())


def _time_text(times: Mapping[str, Any]) -> str:
    every = [str(each["frequency"]) for each in times["frequencies"]]
    if len(every) > 1:
        every = [
            f"{each['frequency']} ({counted(each['series'], 'series')})" for each in times["frequencies"]
        ]
    text = f"{times['column']} from {times['first']} to {times['last']}"
    return f"{text}, every {_names_text(every, len(every))}"


def _missing_text(missing: Mapping[str, Any]) -> str:
    def share_text(name: str, share: Mapping[str, Any]) -> str:
        return f"{name} {share['values']:,} ({share['percent']:g}%)"

    if missing["values"] == 0:
        return "no values"
    text = f"{counted(missing['values'], 'value')} ({missing['percent']:g}%) in {missing['series']:,} series"
    if len(missing["by_feature"]) > 1:
        by_count = sorted(missing["by_feature"].items(), key=lambda item: -item[1]["values"])
        gaps = [share_text(name, share) for name, share in by_count if share["values"]]
        text += f"; by feature {_names_text(gaps, len(gaps))}"
    return f"{text}; most in {', '.join(share_text(repr(each['id']), each) for each in missing['worst'][:3])}"


def _split_text(name: str, numbers: Mapping[str, int], horizon: int | None) -> str:
    if numbers["steps"] == 0:
        return f"empty: raise `{name}_fraction` to hold values out"
    text = f"{counted(numbers['series'], 'series')}, {counted(numbers['steps'], 'step')}, "
    if name == "train":
        text += f"{counted(numbers['windows'], 'window')} of {numbers['window_length']:,} steps"
        for key, what in (("padded_series", "shorter than a window, padded"), ("unused_series", "unused")):
            text += f"; {counted(numbers[key], 'series')} {what}" if numbers[key] else ""
        return text
    if numbers["forecasts"] == 0:
        return f"{text}too few for a forecast after a context"
    text += f"{counted(numbers['forecasts'], 'forecast')} of {counted(numbers['horizon'], 'step')}"
    if horizon is not None and numbers["horizon"] < horizon:
        text += f"; no held-out part is as long as `horizon` {horizon:,}"
    return text


def _incomplete_text(summary: Mapping[str, Any]) -> str:
    """Return which series predict will leave out unless more covariates are given."""
    count, ids = summary["incomplete"]["series"], summary["incomplete"]["ids"]
    ahead = counted(summary["horizon"], "step")
    if count == summary["series"]:
        return f"predict needs covariates {ahead} ahead, in rows after the last value; no series has them yet"
    which = f"{counted(count, 'series')}, {_names_text([*map(repr, ids)], count)}"
    return f"predict will leave out {which}, unless rows after their last value give covariates {ahead} ahead"


def _left_out_text(left_out: Mapping[str, str]) -> str:
    """Return the number of series left out, and the first ones grouped by reason."""
    by_reason: dict[str, list[str]] = {}
    for name, reason in list(left_out.items())[:MAX_NAMED]:
        by_reason.setdefault(reason, []).append(repr(name))
    groups = [f"{', '.join(names)} ({reason.rstrip('.')})" for reason, names in by_reason.items()]
    others = f" and {len(left_out) - MAX_NAMED:,} others" if len(left_out) > MAX_NAMED else ""
    return f"{counted(len(left_out), 'series')}: {', '.join(groups)}{others}"


def _names_text(names: Sequence[str], number: int, limit: int = MAX_NAMED) -> str:
    """Return the first names, and how many others there are."""
    others = number - min(len(names), limit)
    return ", ".join(names[:limit]) + (f" and {others:,} others" if others else "")


def split_counts(datamodule: Any) -> dict[str, dict[str, int]]:
    """Return what a ``TableDataModule`` trains on, and forecasts in the held-out splits, after ``setup``."""
    lengths = datamodule.segments["train"].lengths
    length = datamodule.context_length + datamodule.scored_length
    counts = {
        "train": {
            "series": int((lengths > 0).sum()),
            "steps": int(lengths.sum()),
            "windows": len(datamodule.training_starts()),
            "window_length": length,
            "padded_series": int(((lengths >= 2) & (lengths < length)).sum()),
            "unused_series": int((lengths == 1).sum()),
        }
    }
    for split in ("val", "test"):
        if getattr(datamodule, f"{split}_fraction") > 0:
            lengths = datamodule.segments[split].lengths
            counts[split] = {
                "series": int((lengths > 0).sum()),
                "steps": int(lengths.sum()),
                "forecasts": len(datamodule.forecast_starts(split)),
                "horizon": datamodule.horizon_of(split),
            }
    return counts

"""Clocks in time zones."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from rnn_lightning.errors import InputError

if TYPE_CHECKING:
    import polars as pl


def offset_durations(offsets: "pl.Series") -> "pl.Series":
    """Durations of the offsets ``Z``, ``+02``, ``+0200`` and ``+02:00``."""
    import polars as pl

    digits = offsets.str.replace("Z", "+0000").str.replace(":", "")
    minutes = digits.str.slice(1, 2).cast(pl.Int64) * 60 + digits.str.slice(3, 2).cast(
        pl.Int64, strict=False
    ).fill_null(0)
    sign = digits.str.starts_with("-").cast(pl.Int64) * -2 + 1
    return (minutes * sign * 60_000_000).cast(pl.Duration("us"))


def declare_zone(
    ids: "pl.Series", stamps: "pl.Series", time_zone: str, place: Callable[[int], str]
) -> "pl.Series":
    """Clocks without a zone, read in ``time_zone``; the second time that one series shows an hour is the later one.

    Raises:
        InputError: for a clock that the zone skips.
    """
    import polars as pl

    early = stamps.dt.replace_time_zone(time_zone, ambiguous="earliest", non_existent="null")
    if early.null_count():
        row = int(early.is_null().arg_max() or 0)
        raise InputError(
            f"{place(row)} has the stamp {stamps[row]}, an hour that clocks in --data.series.time_zone {time_zone} skip: "
            "drop the option if they are not set forward."
        )
    late = stamps.dt.replace_time_zone(time_zone, ambiguous="latest", non_existent="null")
    twofold = early != late
    if not twofold.any():
        return early
    rows = pl.DataFrame({"id": ids, "stamp": stamps}).with_row_index().filter(twofold)
    again = rows.select("index", number=pl.int_range(pl.len()).over("id", "stamp")).filter(
        pl.col("number") == 1
    )["index"]
    return early.scatter(again, late.gather(again)) if len(again) else early

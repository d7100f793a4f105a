"""What ``auto`` stands for in the options of the data module."""

from collections.abc import Collection, Mapping

import numpy as np

from rnn_lightning.data.series import SeriesData

MIN_CONTEXT, SEASONS_OF_CONTEXT = 100, 5
MAX_SCORED, HORIZON, SHORT_SEASON = 48, 24, 12

VAL_FRACTION = 0.25

BATCH_SIZES, NUM_BATCHES = (12, 32), (20, 60)
"""The least and the most: many series bear a longer training."""

SIZES = (
    "horizon",
    "scored_length",
    "context_length",
    "min_context_length",
    "batch_size",
    "num_batches_per_epoch",
)
"""The arguments of the data module that ``auto_sizes`` is about."""


def auto_sizes(
    names: Collection[str], data: SeriesData, season: int, given: Mapping[str, int | None]
) -> dict[str, int | None]:
    """All ``SIZES``, of which those with ``names`` follow the season, the lengths and the number of series.

    Args:
        names: those that are ``auto``.
        data: the series.
        season: steps of their season, 1 for none.
        given: all ``SIZES``, where those of ``names`` do not count.
    """
    sizes = dict(given)
    if "horizon" in names:
        wanted = HORIZON if season == 1 else 2 * season if season <= SHORT_SEASON else season
        if data.covariates is not None:
            wanted = min(wanted, int((data.offsets.diff() - data.lengths).max()))
        sizes["horizon"] = max(1, min(wanted, int(data.lengths.max()) // 4))
    if "scored_length" in names:
        sizes["scored_length"] = min(sizes["horizon"] or 1, MAX_SCORED)
    if "context_length" in names:
        sizes["context_length"] = max(SEASONS_OF_CONTEXT * season, MIN_CONTEXT)
        least = max(2 * season, (sizes["scored_length"] or 1) // 2)
        sizes["min_context_length"] = sizes["min_context_length"] or least
    if "batch_size" in names:
        sizes["batch_size"] = int(np.clip(data.num_series, *BATCH_SIZES))
    if "num_batches_per_epoch" in names:
        sizes["num_batches_per_epoch"] = int(np.clip(data.num_series, *NUM_BATCHES))
    return sizes

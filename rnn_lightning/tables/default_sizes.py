"""The sizes that ``auto`` stands for in the data module."""

from collections.abc import Collection, Mapping

import numpy as np

from rnn_lightning.data.series import SeriesData

CONTEXT_SEASONS, MIN_CONTEXT = 5, 100
"""A context has five seasons, and at least 100 steps."""

HORIZON, SHORT_SEASON, MAX_SCORED = 24, 12, 48
"""Horizon without a season; longest season of which a horizon has two; largest scored length."""

VAL_FRACTION = 0.25

BATCH_SIZES, NUM_BATCHES = (12, 32), (20, 60)
"""Smallest and largest value: with more series, a longer training does not overfit."""

SIZES = (
    "horizon",
    "scored_length",
    "context_length",
    "min_context_length",
    "batch_size",
    "num_batches_per_epoch",
)
"""The arguments of the data module that ``default_sizes`` returns."""


def default_sizes(
    names: Collection[str], data: SeriesData, season: int, given: Mapping[str, int | None]
) -> dict[str, int | None]:
    """Choose the sizes that are ``auto`` by the season and by the lengths and number of the series.

    Args:
        names: the sizes that are ``auto``.
        data: the series.
        season: season in steps, 1 for none.
        given: all ``SIZES``, of which those in ``names`` are replaced.
    """
    sizes = dict(given)
    if "horizon" in names:
        horizon = HORIZON if season == 1 else 2 * season if season <= SHORT_SEASON else season
        if data.covariates is not None:  # at most the steps ahead for which they are known
            horizon = min(horizon, int((data.offsets.diff() - data.lengths).max()))
        horizon = max(1, min(horizon, int(data.lengths.max()) // 4))
        if data.covariates is None:  # over the weekend of an exchange
            from rnn_lightning.tables.calendar import steps_until_open

            horizon += steps_until_open(data.times, data.lengths, horizon)
        sizes["horizon"] = horizon
    if "scored_length" in names:
        sizes["scored_length"] = min(sizes["horizon"] or 1, MAX_SCORED)
    if "context_length" in names:
        sizes["context_length"] = max(CONTEXT_SEASONS * season, MIN_CONTEXT)
        least = max(2 * season, (sizes["scored_length"] or 1) // 2)
        sizes["min_context_length"] = sizes["min_context_length"] or least
    for name, (smallest, largest) in (("batch_size", BATCH_SIZES), ("num_batches_per_epoch", NUM_BATCHES)):
        if name in names:
            sizes[name] = int(np.clip(data.num_series, smallest, largest))
    return sizes

"""Forecasts that go far beyond what their series have shown: a sign of a network that has diverged."""

import numpy as np
import torch

from rnn_lightning.data.batches import values_at
from rnn_lightning.data.series import SeriesData
from rnn_lightning.tables.forecast_file import PIECE_ROWS, ForecastTable

SHOWN_STEPS = 1000
"""The last steps of a series that a forecast is compared with."""

REACH = 10.0
"""A forecast may go beyond these steps by so many times their range, more where it is long beside them."""


def far_outside(data: SeriesData, table: ForecastTable) -> list[str]:
    """What to say of each series whose point forecast goes far beyond its last thousand steps."""
    found = []
    at_once = max(1, PIECE_ROWS // max(SHOWN_STEPS, table.horizon))
    for first in range(0, data.num_series, at_once):
        items = torch.arange(first, min(first + at_once, data.num_series))
        begin, end = data.offsets[items], data.ends[items]
        num_steps = min(SHOWN_STEPS, int((end - begin).max()))
        shown = values_at(data, end[:, None] + torch.arange(-num_steps, 0), (begin, end)).double().numpy()
        lowest, highest = np.fmin.reduce(shown, 1), np.fmax.reduce(shown, 1)
        width = np.where(
            highest > lowest, highest - lowest, np.fmax(np.abs(highest), np.nanmax(highest - lowest))
        )
        length = (end - begin).clamp_max(num_steps).double().numpy()[:, None]
        reach = REACH * width * (1 + table.horizon / length)
        forecast = table.rows(first, int(items[-1]) + 1)[..., 0].astype(np.float64)
        low, high = np.fmin.reduce(forecast, 1), np.fmax.reduce(forecast, 1)
        for row, feature in np.argwhere((low < lowest - reach) | (high > highest + reach)):
            of_history = f"{lowest[row, feature]:.3g} to {highest[row, feature]:.3g}"
            of_forecast = f"{low[row, feature]:.3g} to {high[row, feature]:.3g}"
            name, column = data.ids[first + row], data.features[feature]
            found.append(f"{name!r} ({column} from {of_history}, forecast {of_forecast})")
    return found

"""Backtests for which a network is fitted anew at every origin."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from rnn_lightning.data.series import SeriesData
from rnn_lightning.data.windows import ForecastBatch, Segments, Windows
from rnn_lightning.evaluation.prediction_intervals import PredictionIntervals

Fit = Callable[[SeriesData], Any]
"""Returns a network fitted to series, whose intervals, if it has any, are its attribute ``intervals``."""


class Refits:
    """Networks that are fitted at each origin of a backtest to what came before it, one after another.

    Args:
        fit: fits a network.
        data: the series.
        segments: the steps to forecast.
        windows: the starts of the forecasts in the segments.
        context_length: number of known steps before each origin.
    """

    def __init__(
        self, fit: Fit, data: SeriesData, segments: Segments, windows: Windows, context_length: int
    ) -> None:
        segment, first = windows.locate(torch.arange(len(windows)))
        self.data, self.networks = data, dict[int, Any]()
        for num_left_out in (data.ends[segments.series[segment]] - first - context_length).unique().tolist():
            lengths = (data.lengths - num_left_out).clamp_min(1)
            with torch.inference_mode(False), torch.enable_grad():
                self.networks[num_left_out] = fit(replace(data, lengths=lengths)).eval()

    def parts(self, batch: ForecastBatch) -> Iterator[tuple[ForecastBatch, Any, PredictionIntervals]]:
        """Yield the forecasts of a batch that share an origin, with the network fitted there."""
        left_out = self.data.lengths[batch.series_index.cpu()] - 1 - batch.origin.cpu()
        for number in left_out.unique().tolist():
            network = self.networks[number]
            part = rows_of(batch, (left_out == number).nonzero()[:, 0])
            yield part.to(network.device), network, PredictionIntervals.of(network)

    @property
    def intervals(self) -> PredictionIntervals:
        """Those of one of the networks."""
        return PredictionIntervals.of(next(iter(self.networks.values())))


def rows_of(batch: ForecastBatch, rows: Tensor) -> ForecastBatch:
    """Return some of the forecasts of a batch."""
    parts: list[Any] = [part[rows.to(part.device)] if isinstance(part, Tensor) else part for part in batch]
    traits = {name: trait[rows] for name, trait in batch.traits.items()}
    return ForecastBatch(*parts)._replace(names=[batch.names[row] for row in rows.tolist()], traits=traits)

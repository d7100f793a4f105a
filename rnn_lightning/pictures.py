"""Pictures without a layer of their own: writing a figure, and the forecasts of a batch."""

import warnings
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from rnn_lightning.files import atomic_file

MAX_PANELS = 4


def save_png(figure: Figure, path: Path) -> None:
    """Write a PNG file; characters that the font lacks, such as emoji, are drawn as boxes."""
    with warnings.catch_warnings(), atomic_file(path) as file:
        warnings.filterwarnings(
            "ignore", "Glyph .* missing from|Matplotlib currently does not support", UserWarning
        )
        FigureCanvasAgg(figure).print_png(file)  # savefig would draw everything twice


def plot_lead_times(series_index: Tensor, point: Tensor, samples: Tensor | None) -> Figure:
    """Draw the first series of a batch by lead time, and the middle 80 % of sampled paths."""
    num_panels, steps = min(len(point), MAX_PANELS), range(1, point.shape[1] + 1)
    figure = Figure(figsize=(7, 0.6 + 1.6 * num_panels), layout="constrained")
    for row, axis in enumerate(figure.subplots(num_panels, sharex=True, squeeze=False)[:, 0]):
        if samples is not None:
            low, high = np.quantile(samples[:, row, :, 0].cpu().numpy(), (0.1, 0.9), axis=0)
            axis.fill_between(steps, low, high, alpha=0.3, lw=0)
        axis.plot(steps, point[row, :, 0].cpu(), marker=".")
        axis.set(ylabel=f"series {int(series_index[row])}")
        axis.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
    figure.supxlabel("lead time in steps", fontsize=10)
    return figure

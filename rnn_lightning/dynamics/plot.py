"""The picture of a learned dynamical system."""

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from rnn_lightning.dynamics.measured import Measured
from rnn_lightning.dynamics.metrics import SpectrumDistance

TRUE, LEARNED = {"color": "0.45", "lw": 0.7}, {"color": "#0072b2", "lw": 0.9}


def plot_dynamics(measured: Measured) -> Figure:
    """Draw attractor, power spectrum, growth of the error and a forecast with its valid time.

    The attractor is that of the first and the last feature; of one feature, over itself some steps before.
    """
    figure = Figure(figsize=(10, 7), dpi=120, layout="constrained")
    axes = figure.subplots(2, 2).flatten()
    _draw_attractor(axes[0], measured)
    _draw_spectrum(axes[1], measured)
    _draw_growth(axes[2], measured)
    _draw_forecast(axes[3], measured)
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].legend(frameon=False, fontsize=9)
    return figure


def _draw_attractor(axis: Axes, measured: Measured) -> None:
    lag = 0 if measured.recording.shape[1] > 1 else correlation_time(measured.recording[:, 0])
    for path, name, style in ((measured.recording, "series", TRUE), (measured.generated, "learned", LEARNED)):
        shown = path[:5000].numpy()
        axis.plot(shown[lag:, 0], shown[: len(shown) - lag, -1], label=name, **style)  # type: ignore[arg-type]
    first, last = measured.features[0], measured.features[-1]
    axis.set(xlabel=first, ylabel=f"{last}, {lag} steps before" if lag else last)
    axis.set_title("attractor", fontsize=10, loc="left")


def _draw_spectrum(axis: Axes, measured: Measured) -> None:
    length = min(len(measured.recording), len(measured.generated))
    frequencies = np.fft.rfftfreq(length)[1:]
    for path, style in ((measured.recording, TRUE), (measured.generated, LEARNED)):
        power = SpectrumDistance(2.0).spectrum(path[:length])[0, 1:]
        axis.loglog(frequencies, power.numpy(), **style)
    axis.set(xlabel="frequency in 1 / step", ylabel="power")
    axis.set_title(f"power spectrum of {measured.features[0]}", fontsize=10, loc="left")


def _draw_growth(axis: Axes, measured: Measured) -> None:
    unit = measured.lyapunov_time or 1.0
    leads = np.arange(1, measured.errors.shape[1] + 1) / unit
    low, middle, high = measured.errors.nanquantile(torch.tensor([0.1, 0.5, 0.9]).double(), 0).numpy()
    axis.semilogy(leads, middle, **LEARNED)
    axis.fill_between(leads, low, high, color="#b3d5e8", lw=0)
    axis.axhline(0.4, color="0.7", lw=0.8)
    axis.set(xlabel=_lead_label(measured), ylabel="error in standard deviations")
    axis.set_title(f"growth of the error, median and 80 % of {len(measured.errors)}", fontsize=10, loc="left")


def _draw_forecast(axis: Axes, measured: Measured) -> None:
    unit, held = measured.lyapunov_time or 1.0, float(measured.valid.double().median())
    shown = min(len(measured.truth), max(20, int(2 * held)))
    leads = np.arange(1, shown + 1) / unit
    axis.plot(leads, measured.truth[:shown, 0].numpy(), color="0.75", lw=2.5)  # wider: the forecast covers it
    axis.plot(leads, measured.forecast[:shown, 0].numpy(), **LEARNED)  # type: ignore[arg-type]
    if held < len(measured.truth):
        axis.axvline(held / unit, color="#d55e00", lw=1)
    axis.set(xlabel=_lead_label(measured), ylabel=measured.features[0])
    axis.set_title(f"forecast, valid for {measured.valid_text}", fontsize=10, loc="left")


def _lead_label(measured: Measured) -> str:
    return "lead time in Lyapunov times" if measured.lyapunov_time else "lead time in steps"


def correlation_time(values: Tensor) -> int:
    """Return the first lag at which the autocorrelation of ``values (time,)`` is below 1 / e."""
    centred = values - values.mean()
    power = torch.fft.rfft(centred, 2 * len(centred)).abs().square()
    correlation = torch.fft.irfft(power)[: len(centred)]
    below = correlation < correlation[0] / torch.e
    return max(1, int(below.int().argmax())) if bool(below.any()) else 1

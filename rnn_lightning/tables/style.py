"""How pictures look: colours, axes, and lines with gaps."""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

Theme = Literal["light", "dark"]


class Colours(NamedTuple):
    """Distinct in print and for all eyes: the forecast in the blue of Okabe and Ito, the history darker."""

    paper: str
    ink: str
    history: str
    forecast: str


COLOURS = {
    "light": Colours("#ffffff", "#333333", "#333333", "#0072b2"),
    "dark": Colours("#16191d", "#d8dce0", "#d8dce0", "#56b4e9"),
}

DARKEST, LIGHTEST = 0.5, 0.15
"""How much of the forecast's colour the narrowest and the widest interval have."""


def shades(colours: Colours, number: int) -> list[np.ndarray]:
    """Opaque mixtures of paper and forecast, from dark to light."""
    shares = np.linspace(DARKEST, LIGHTEST, number) if number != 1 else [0.3]
    paper, forecast = np.array(to_rgb(colours.paper)), np.array(to_rgb(colours.forecast))
    return [paper + share * (forecast - paper) for share in shares]


def paint(axis: Axes, colours: Colours) -> None:
    """Paper, ink and frame of one axis."""
    axis.set_facecolor(colours.paper)
    axis.spines[["top", "right"]].set_visible(False)
    axis.spines[["bottom", "left"]].set_color(colours.ink)
    axis.tick_params(colors=colours.ink)
    for label in (axis.xaxis.label, axis.yaxis.label):
        label.set_color(colours.ink)


def set_title(axis: Axes, title: str, colours: Colours) -> None:
    """The name of a series, on the right above its axis."""
    axis.set_title(shortened(title, 60), fontsize=10, loc="right", color=colours.ink, parse_math=False)


def add_legend(figure: Figure, axis: Axes, colours: Colours) -> None:
    """What is drawn on one axis, above the picture."""
    figure.legend(
        *axis.get_legend_handles_labels(),
        loc="outside upper left",
        frameon=False,
        fontsize=9,
        ncols=6,
        labelcolor=colours.ink,
    )


def draw_line(axis: Axes, stamps: Sequence[Any] | np.ndarray, values: np.ndarray, **style: Any) -> None:
    """A line with gaps where values are NaN; a value between two gaps is a dot."""
    if dots := alone(values):
        style |= {"marker": ".", "markevery": dots}
    axis.plot(stamps, values, **style)


def alone(values: np.ndarray) -> list[int]:
    """Where a value has none before and after it."""
    known = np.pad(~np.isnan(values), 1)
    return np.flatnonzero(known[1:-1] & ~known[:-2] & ~known[2:]).tolist()


def shortened(name: str, length: int) -> str:
    """A name in one line of at most ``length`` signs."""
    line = " ".join(name.split())
    return line if len(line) <= length else f"{line[: length - 1]}…"

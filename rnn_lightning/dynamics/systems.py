"""Canonical chaotic systems as series, each deterministic in its own seed."""

import contextlib
import io
import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import torch

from rnn_lightning.data.array import Array, ArraySeries
from rnn_lightning.data.series import Series, SeriesData
from rnn_lightning.data.synthetic import require_positive
from rnn_lightning.errors import InputError

Field = Callable[[np.ndarray], np.ndarray]

TEXT_FILES = (".csv", ".tsv", ".txt", ".dat")

MIN_ROWS, MIN_EVEN, MAX_SPAN = 10, 0.8, 10
"""Rows from which a column that rises evenly is taken as the time, the part of them without gaps, and the
steps for each row that it may span."""


def integrate(
    field: Field, start: np.ndarray, time_step: float, num_steps: int, max_size: float
) -> np.ndarray:
    """Integrate ``dp / dt = field(p)`` by Runge and Kutta of order four; return ``(time, feature)``.

    Each time step is divided into four, or into more that are no longer than ``max_size``.
    """
    substeps = max(4, math.ceil(time_step / max_size))
    points, point, size = np.empty((num_steps, len(start))), start, time_step / substeps
    for index in range(num_steps):
        points[index] = point
        for _ in range(substeps):
            first = field(point)
            second = field(point + size / 2 * first)
            third = field(point + size / 2 * second)
            fourth = field(point + size * third)
            point = point + size / 6 * (first + 2 * second + 2 * third + fourth)
    return points


class DynamicsSeries(Series):
    """A recording of one dynamical system: subclass it and write ``clean``.

    Attributes:
        lyapunov_time: steps in which a small error grows by the factor e, from the literature, if known.
    """

    lyapunov_time: float | None

    def __init__(self, num_steps: int, noise: float, seed: int) -> None:
        require_positive(num_steps=num_steps)
        if not noise >= 0:
            raise InputError(f"`noise` must not be negative, got {noise}.")
        self.num_steps, self.noise, self.seed = num_steps, noise, seed

    def clean(self) -> np.ndarray:
        """Return the noise-free values ``(time, feature)``."""
        raise NotImplementedError

    def load(self) -> SeriesData:
        values = self.clean()
        drawn = np.random.default_rng([self.seed % 2**64, 1]).standard_normal(values.shape)
        return SeriesData.from_equal(torch.from_numpy(values + self.noise * values.std(0) * drawn)[None])


class RecordedSeries(ArraySeries):
    """Recording of a dynamical system: a .npy file, ``(time,)`` or ``(time, feature)``, or a text file.

    It is an ``ArraySeries`` whose dynamics ``test`` measures and draws. A text file, such as a .csv, has a
    column for each variable, separated by commas, semicolons, tabs or spaces, and may have a header line. A
    column that rises evenly is treated as time and left out, and its gaps are steps of unknown values.

    Args:
        path: the file; in Python also an array or a list.
        lyapunov_time: steps in which a small error grows by a factor of e, if known: a unit of lead time.
    """

    def __init__(self, path: Array, lyapunov_time: float | None = None) -> None:
        super().__init__(path)
        if lyapunov_time is not None and not lyapunov_time > 0:
            raise InputError(f"`lyapunov_time` must be above 0, got {lyapunov_time}.")
        self.lyapunov_time = lyapunov_time

    def load(self) -> SeriesData:
        data = super().load()
        if self._times:
            left_out = "rises evenly: it is taken as the time and left out"
            warnings.warn(f"{', '.join(map(repr, self._times))} {left_out}.", stacklevel=2)
        return replace(data, features=self._names) if self._names else data

    def _open(self) -> np.ndarray:
        if isinstance(self.path, np.ndarray) or Path(self.path).suffix not in TEXT_FILES:
            names, values = list[str](), super()._open()
        else:
            names, values = _read(self.path)
        times = [_time_steps(column) for column in values.T] if values.ndim == 2 else [None]
        every = names or [f"column {number + 1}" for number in range(len(times))]
        self._times = (
            []
            if len(times) == 1
            else [name for name, steps in zip(every, times, strict=True) if steps is not None]
        )
        self._names = [name for name in names if name not in self._times]
        if not self._times:
            return np.array(values, order="C") if names else values
        kept = np.array([steps is None for steps in times])
        steps = next(steps for steps in times if steps is not None)
        filled = np.full(
            (steps[-1] + 1, kept.sum()), np.nan, np.result_type(values, np.float32)
        )  # unknown in gaps
        filled[steps] = values[:, kept]
        return filled


def _read(path: str | Path) -> tuple[list[str], np.ndarray]:
    """Return the names in the first line of a file, if any, and its numbers ``(time, feature)``."""
    text = Path(path).read_text(encoding="utf-8-sig").splitlines()
    lines = [line for line in text if line.strip() and line[0] != "#"]
    sign = next((sign for sign in (";", "\t", ",") if lines and sign in lines[0]), None)
    if sign is None:  # runs of spaces
        lines, sign = [",".join(line.split()) for line in lines], ","
    has_names = bool(lines) and not _are_numbers(lines[0].replace('"', "").split(sign))
    rule = "every row below the names must have a number, or nothing, for each column"
    if len({line.count(sign) for line in lines}) > 1 or len(lines) == has_names:
        raise InputError(f"`path` {path}: {rule}.")
    source, settings = io.BytesIO("\n".join(lines).encode()), {"infer_schema": False, "has_header": has_names}
    try:
        table = pl.read_csv(source, separator=sign, **settings)  # type: ignore[arg-type]
        table = table.select(part for part in table if part.null_count() < table.height)  # a comma at the end
        values = table.select(pl.all().str.strip_chars().replace("", None).cast(pl.Float64)).to_numpy()
    except pl.exceptions.PolarsError as error:
        cells = ((line, cell.strip()) for line in lines[has_names:] for cell in line.split(sign))
        line, cell = next(
            ((line, cell) for line, cell in cells if cell and not _are_numbers([cell])), (lines[0], "")
        )
        place = f"row {text.index(line) + 1} has {cell!r}" if line in text else f"there is {cell!r}"
        advice = ": write decimals with a point" if "," in cell else ""
        raise InputError(f"`path` {path}: {rule}; {place}{advice}.") from error
    return [name.strip() for name in table.columns] if has_names else [], values


def _are_numbers(cells: Sequence[str]) -> bool:
    with contextlib.suppress(ValueError):
        return len([float(cell) for cell in cells if cell.strip()]) > 0
    return False


def _time_steps(values: np.ndarray) -> np.ndarray | None:
    """Return the step of each of ``values (time,)`` that rise evenly, as rounded times with a few gaps do.

    None if they do not.
    """
    values = values.astype(float)
    changes = np.diff(values)
    if len(values) < MIN_ROWS or not (changes > 0).all():
        return None
    usual = changes[np.rint(changes / np.median(changes)) == 1]
    span = MAX_SPAN * len(values)
    if len(usual) <= MIN_EVEN * len(changes) or values[-1] - values[0] > span * usual.mean():
        return None
    size = usual.mean()
    size = (values[-1] - values[0]) / max(np.rint((values[-1] - values[0]) / size), 1)
    place = (values - values[0]) / size
    steps = np.rint(place)
    digits = next((number for number in range(9) if np.array_equal(np.round(values, number), values)), 9)
    limit = max(0.1, min(10.0**-digits / size, 0.45))  # of a step: the last digit
    is_time = np.abs(place - steps).max() <= limit and (np.diff(steps) > 0).all()
    return steps.astype(int) if is_time and np.mean(np.diff(steps) == 1) > MIN_EVEN else None


class LorenzSeries(DynamicsSeries):
    """The system of Lorenz (1963) with its three features, at the parameters 10, 28 and 8/3.

    Args:
        num_steps: number of recorded steps, after 500 that are discarded.
        time_step: time between two steps.
        noise: standard deviation of observation noise, relative to that of each feature.
        seed: seed of the start and of the noise.
    """

    num_features = 3

    def __init__(
        self, num_steps: int = 5000, time_step: float = 0.02, noise: float = 0.0, seed: int = 0
    ) -> None:
        super().__init__(num_steps, noise, seed)
        require_positive(time_step=time_step)
        self.time_step, self.lyapunov_time = time_step, 1 / (0.9056 * time_step)

    def clean(self) -> np.ndarray:
        def field(point: np.ndarray) -> np.ndarray:
            x, y, z = point.tolist()
            return np.array([10 * (y - x), x * (28 - z) - y, x * y - 8 / 3 * z])

        start = np.array([1.0, 1.0, 25.0]) + np.random.default_rng(self.seed % 2**64).normal(size=3)
        return integrate(field, start, self.time_step, self.num_steps + 500, max_size=0.01)[500:]


class RosslerSeries(DynamicsSeries):
    """The system of Rossler (1976) with its three features, at the parameters 0.2, 0.2 and 5.7.

    Args:
        num_steps: number of recorded steps, after 500 that are discarded.
        time_step: time between two steps; a turn takes about 5.9.
        noise: standard deviation of observation noise, relative to that of each feature.
        seed: seed of the start and of the noise.
    """

    num_features = 3

    def __init__(
        self, num_steps: int = 5000, time_step: float = 0.1, noise: float = 0.0, seed: int = 0
    ) -> None:
        super().__init__(num_steps, noise, seed)
        require_positive(time_step=time_step)
        self.time_step, self.lyapunov_time = time_step, 1 / (0.0714 * time_step)

    def clean(self) -> np.ndarray:
        def field(point: np.ndarray) -> np.ndarray:
            x, y, z = point.tolist()
            return np.array([-y - z, x + 0.2 * y, 0.2 + z * (x - 5.7)])

        start = np.array([1.0, 1.0, 1.0]) + np.random.default_rng(self.seed % 2**64).random(3)
        return integrate(field, start, self.time_step, self.num_steps + 500, max_size=0.05)[500:]


class MackeyGlassSeries(DynamicsSeries):
    """The delay equation of Mackey and Glass (1977), by the recipe of Jaeger (GMD report 148, section 6).

    ``dy / dt = 0.2 y(t - delay) / (1 + y(t - delay)^10) - 0.1 y(t)`` integrated with Euler steps of 0.1;
    every tenth value is kept, squashed by ``tanh(y - 1)``.

    Args:
        num_steps: number of recorded steps, after 1,000 that are discarded.
        delay: the delay; chaos begins at 16.8, and 17 is the usual benchmark.
        noise: standard deviation of observation noise, relative to that of the values.
        seed: seed of the start and of the noise.
    """

    def __init__(self, num_steps: int = 3000, delay: float = 17.0, noise: float = 0.0, seed: int = 0) -> None:
        super().__init__(num_steps, noise, seed)
        if not delay >= 0.1:
            raise InputError(f"`delay` must be at least 0.1, got {delay}.")
        self.delay, self.time_step = delay, 1.0
        self.lyapunov_time = 163.0 if delay == 17 else None  # of two neighbouring runs of this recipe

    def clean(self) -> np.ndarray:
        lag, discarded = round(self.delay * 10), 1000
        uniform = np.random.default_rng(self.seed % 2**64).random(lag + 1)
        values = (1.2 + 0.2 * (uniform - 0.5)).tolist()
        for index in range(lag, lag + (self.num_steps + discarded) * 10):
            before, now = values[index - lag], values[index]
            values.append(now + 0.1 * (0.2 * before / (1 + before**10) - 0.1 * now))
        kept = np.array(values[lag + 1 :][9::10][discarded:])
        return np.tanh(kept - 1)[:, None]


class FlowSeries(DynamicsSeries):
    """Any of the 130 chaotic flows of the package ``dysts`` (Gilpin 2021), chosen by name.

    Its Lyapunov time is the estimate of the package, which for Rossler is less than half the literature
    value.

    Args:
        name: name of the flow, such as ``Halvorsen``.
        num_steps: number of recorded steps, after 500 that are discarded.
        steps_per_period: steps in the dominant period of the flow.
        noise: standard deviation of observation noise, relative to that of each feature.
        seed: seed of the noise and of the start; 0 takes the start given in the package.
    """

    def __init__(
        self,
        name: str = "Halvorsen",
        num_steps: int = 5000,
        steps_per_period: int = 50,
        noise: float = 0.0,
        seed: int = 0,
    ) -> None:
        super().__init__(num_steps, noise, seed)
        require_positive(steps_per_period=steps_per_period)
        try:
            from dysts import flows
        except ImportError as error:
            raise InputError("FlowSeries needs the package dysts: pip install dysts.") from error
        if not hasattr(flows, name):
            raise InputError(f"`name`: the package dysts has no flow {name!r}.")
        self.name, self.steps_per_period, self.flow = name, steps_per_period, getattr(flows, name)()
        self.time_step = float(self.flow.period) / steps_per_period
        self.lyapunov_time = 1 / (float(self.flow.maximum_lyapunov_estimated) * self.time_step)
        self.num_features = len(self.flow.ic)

    def clean(self) -> np.ndarray:
        start = np.array(self.flow.ic, np.float64)
        if self.seed != 0:
            start *= 1 + 0.01 * np.random.default_rng(self.seed % 2**64).standard_normal(len(start))
        field = lambda point: np.array(self.flow.rhs(point, 0.0), np.float64)  # noqa: E731
        largest = float(self.flow.period) / 200
        return integrate(field, start, self.time_step, self.num_steps + 500, largest)[500:]

"""One step of the seasonal network in an ONNX graph, for rows of different seasons side by side.

The twin of ``SeasonalNetwork``, ``Tracker`` and ``clock``, from the same tables of features. How far back a
step looks is the season's matter: the past of each row is kept newest last, and read by index.
"""

from typing import Any, NamedTuple

import numpy as np

from rnn_lightning.onnx.cells import step
from rnn_lightning.onnx.graph import Graph, Operand, Value, numbers
from rnn_lightning.onnx.season_lags import NUM_KEPT_OF_PHASE, Lags
from rnn_lightning.pretrained.season_clock import ERROR_RATE, LEAST_SPREAD, RATES, for_each_rate
from rnn_lightning.pretrained.season_features import (
    DIFFERENCES,
    LEVELS,
    NUM_COUNTS,
    PROFILES,
    QUANTITIES,
    SIMPLE_FORECASTS,
    SLOPES,
)
from rnn_lightning.pretrained.season_track import PROFILE_SEASONS


class Memory(NamedTuple):
    """What a step carries on, ``(row, size)`` each, see ``Track``; the first two have mirrored rows below."""

    hidden: Value
    cell: Value
    prediction: Value
    effect: Value
    spread: Value
    age: Value
    free: Value
    values: Value
    averages: Value
    adjusted: Value
    profiles: Value
    smoothed: Value
    errors: Value
    forecasts: Value


class Moment(NamedTuple):
    """What depends on how long a row is known, ``(row, 1)`` and rates ``(row, 7)``, see ``Clock``."""

    age: Value
    free: Value
    started: Value
    rates: Value
    error_rate: Value


class SeasonStep:
    """The network, one step at a time.

    Args:
        graph: the graph.
        network: the network.
        lags: how far back the rows look.
    """

    def __init__(self, graph: Graph, network: Any, lags: Lags) -> None:
        self.graph, self.network, self.lags = graph, network, lags
        of_forecasts = [dict.fromkeys(names, 1) for names in SIMPLE_FORECASTS]
        self.to_forecasts, self.to_differences = (
            np.array([[sums.get(name, 0) for sums in table] for name in QUANTITIES], np.float32)
            for table in (of_forecasts, DIFFERENCES)
        )
        num_even = len(SIMPLE_FORECASTS) + NUM_COUNTS
        self.signs = np.array([-1] * len(DIFFERENCES) + [1] * num_even, np.float32)
        self.mixed_places = np.array([QUANTITIES.index(name) for name in (*LEVELS, *PROFILES, *SLOPES)])

    def start(self, num_rows: Value) -> list[Value]:
        """Return the memory of rows that have not begun."""
        zero, lags = self.graph.constant(np.zeros(1, np.float32)), self.lags
        mirrored = zero.expand(num_rows + num_rows, self.network.hidden_size)
        column, past = zero.expand(num_rows, 1), zero.expand(num_rows, lags.num_kept)
        profiles = zero.expand(num_rows, lags.longest * np.array([NUM_KEPT_OF_PHASE]))
        smoothed, simple = zero.expand(num_rows, len(RATES)), zero.expand(num_rows, len(SIMPLE_FORECASTS))
        of_steps = (column + np.float32(np.nan), column, column, column - 1.0, column)
        of_track = (past, past, past, profiles, smoothed, simple, simple)
        return list(Memory(mirrored, mirrored, *of_steps, *of_track))

    def __call__(
        self, carried: list[Value], given: Value | None, innovation: Operand, covariates: Value | None
    ) -> tuple[list[Value], Value]:
        """Go on by a value; return the memory after it, and the value ``(row, 1)``.

        Args:
            carried: the memory before it.
            given: ``(row, 1)``, NaN where the prediction counts; None if that is everywhere.
            innovation: ``(row, 1)``, what is added to predictions that count, in scales of the noise.
            covariates: ``(row, covariate)``, those of the step after the value.
        """
        graph, old = self.graph, Memory(*carried)
        value, spread = old.prediction + (old.spread + LEAST_SPREAD) * innovation, old.spread
        is_known = graph.constant(np.zeros((1, 1), np.float32))
        if given is not None:
            is_known = graph.op("Not", given.is_nan()).cast("FLOAT")
        now = self._moment(old, is_known)
        if given is not None:
            own = given - old.effect
            error = graph.op("Abs", own - old.prediction).or_where_nan(0.0)
            spread = spread + now.error_rate * (error - spread)
            value = own.or_where_nan(value)
        has_started = now.started.above(0.0)
        pushed = graph.op("Where", has_started, value, 0.0)
        track, quantities, has_profile = self._pushed(old, pushed, now)
        inputs = features = self._features(quantities, track[-2], has_profile, now)
        effect = old.effect
        if covariates is not None:
            inputs = graph.concat(features, graph.concat(covariates, covariates, axis=0), axis=1)
            size = self.network.num_features  # which change fastest over the rows
            by_feature = (covariates @ numbers(self.network.effect).T).reshape(-1, size, size)
            effect = (by_feature * np.eye(size, dtype=np.float32)).sum(2).reshape(-1, 1)
        weights = self.network.recurrent.all_weights[0]
        state = step(graph, "lstm", weights, inputs, [old.hidden, old.cell])
        hidden, cell = (part * graph.concat(now.started, now.started, axis=0) for part in state)
        mixed = self._mixed(quantities, graph.concat(hidden, features, axis=1))
        prediction = graph.op("Where", has_started, mixed, np.float32(np.nan))
        memory = Memory(hidden, cell, prediction, effect, spread, now.age, now.free, *track)
        return list(memory), value + old.effect

    def _moment(self, old: Memory, is_known: Value) -> Moment:
        graph = self.graph
        started = graph.op("Max", is_known, old.age.reaches(0.0).cast("FLOAT"))
        age, free = old.age + started, (old.free + 1.0) * started * (1.0 - is_known)
        plain_mean = graph.op("Reciprocal", graph.op("Max", age + 1.0, 1.0))
        goes_on, known_now = age.above(0.0).cast("FLOAT"), is_known * started
        used = graph.concat(*for_each_rate(started, known_now, goes_on), axis=1)
        rates = graph.op("Max", plain_mean, np.array(RATES, np.float32)) * used
        usual = graph.op("Max", plain_mean, ERROR_RATE)
        error_rate = graph.op("Where", graph.op("Equal", age, 1.0), 1.0, usual) * known_now * goes_on
        return Moment(age, free, started, rates, error_rate)

    def _pushed(self, old: Memory, value: Value, now: Moment) -> tuple[list[Value], Value, Value]:
        """Return the track after a value, the quantities, and whether the next step has a profile."""
        graph, lags = self.graph, self.lags
        profile, has = self._profile(old.profiles, lags.next_phase)
        values = self._appended(old.values, value)
        num_averaged = graph.op("Min", graph.op("Max", now.age + 1.0, 1.0), lags.length)
        average = (values * lags.in_average).sum(1) / num_averaged
        adjusted = graph.op("Where", has.above(0.0), value - profile.slice(1, 1, 2), average)
        change = adjusted - old.adjusted.slice(1, -1)
        change = graph.op("Where", now.age.above(0.0), change, 0.0)
        parts = graph.concat(*for_each_rate(adjusted, value, change), axis=1)
        smoothed = old.smoothed + now.rates * (parts - old.smoothed)
        errors = graph.op("Abs", value - old.forecasts)
        errors = old.errors + now.error_rate * (errors - old.errors)
        averages, all_adjusted = (
            self._appended(*pair) for pair in ((old.averages, average), (old.adjusted, adjusted))
        )
        past = [values.slice(1, -1), *lags.look(values, lags.of_values)]
        *lagged, centre = past
        profiles = self._appended(old.profiles, self._new_profile(old.profiles, values, centre, now))
        profile, has = self._profile(profiles, lags.next_phase)
        slope = (average - lags.look(averages, lags.of_average)[0]) / lags.length
        is_long = now.age.reaches(lags.length * 2.0 - 1.0)
        slope = graph.op("Where", is_long, slope, smoothed.slice(1, -1))
        of_adjusted = [adjusted, *lags.look(all_adjusted, lags.of_adjusted)]
        quantities = self._quantities(now, lagged, of_adjusted, [profile, smoothed, average, slope])
        track = [values, averages, all_adjusted, profiles, smoothed, errors, quantities @ self.to_forecasts]
        return track, quantities, has.above(0.0).cast("FLOAT")

    def _new_profile(self, profiles: Value, values: Value, centre: Value, now: Moment) -> Value:
        """Return the profile of half a season ago and its count, ``(row, 4)``, see ``Tracker``."""
        graph, lags = self.graph, self.lags
        ends = lags.look(values, lags.season_ends)
        total = (values * lags.in_season).sum(1) + (ends[1] - ends[0]) * lags.half_if_even
        deviation = centre - total / lags.season
        before, count = self._profile(profiles, lags.this_phase)
        centred = now.age.reaches(lags.twice_half).cast("FLOAT")
        count = count + centred
        limits = np.array([PROFILE_SEASONS], np.float32)
        rate = centred / graph.op("Min", graph.op("Max", count, 1.0), limits)
        return graph.concat(before + rate * (deviation - before), count, axis=1)

    def _profile(self, profiles: Value, phase: Value) -> tuple[Value, Value]:
        """Return the profile ``(row, 3)`` of a phase and the number of its seasons ``(row, 1)``."""
        found = self.graph.op("GatherElements", profiles, phase, axis=1)
        return found.slice(1, 0, -1), found.slice(1, -1)

    def _quantities(
        self, now: Moment, values: list[Value], adjusted: list[Value], others: list[Value]
    ) -> Value:
        """Return ``QUANTITIES``; the latest value stands for those before all."""
        graph, least = self.graph, self.lags.least_ages
        value, previous, lag, lag_before, lag_twice = values
        lag = graph.op("Where", now.age.reaches(self.lags.season - 1.0), lag, value)
        there = graph.concat(value, previous, *adjusted, lag, lag_before, lag_twice, axis=1)
        instead = graph.concat(value, value, *[adjusted[0]] * 3, lag, value, lag, axis=1)
        first = graph.op("Where", now.age.reaches(least), there, instead)
        return graph.concat(first, *others, axis=1)

    def _features(self, quantities: Value, errors: Value, has_profile: Value, now: Moment) -> Value:
        """Return the inputs of the rows and of their negatives, ``(2 * row, NUM_INPUTS)``."""
        graph, season = self.graph, self.lags.season
        differences = graph.op("Asinh", quantities @ self.to_differences)
        of_errors = graph.op("Log", errors + 0.02) * 0.5
        number = now.age + 1.0
        repeats = [number.reaches(part).cast("FLOAT") for part in (season, season * 2.0)]
        known = graph.op("Log", graph.op("Max", now.age, 0.0) + 2.0) / 5.0
        free = graph.op("Log", graph.op("Min", now.free, 60.0) + 1.0) / 3.0
        is_free = now.free.above(0.0).cast("FLOAT")
        of_counts = [*repeats, has_profile, self.lags.log_season, known, is_free, free]
        features = graph.concat(differences, of_errors, *of_counts, axis=1)
        return graph.concat(features, features * self.signs, axis=0)

    def _mixed(self, quantities: Value, inputs: Value) -> Value:
        """Return the prediction ``(row, 1)``, see ``Ingredients.mix_mirrored``."""
        graph, network = self.graph, self.network
        inner = inputs @ numbers(network.inner.weight.T) + numbers(network.inner.bias)
        inner = inner * graph.op("Sigmoid", inner)
        gates = inner @ numbers(network.readout.weight.T) + numbers(network.readout.bias)
        sizes = np.array([len(LEVELS), len(PROFILES) + 1, len(SLOPES), 1, 1, 1, 1])
        levels, profiles, slopes, part, change, free, is_free = graph.ops(
            "Split", gates, sizes, num_outputs=len(sizes), axis=1
        )
        weights = graph.concat(
            graph.op("Softmax", levels, axis=1),
            graph.op("Softmax", profiles, axis=1).slice(1, 1),
            graph.op("Sigmoid", slopes - 1.5),
            axis=1,
        )
        both = graph.concat(quantities, quantities, axis=0)
        smooth = (weights * graph.op("Gather", both, self.mixed_places, axis=1)).sum(1)
        lag, adjusted, before = (
            graph.op("Gather", both, np.array([QUANTITIES.index(name)]), axis=1)
            for name in ("lag", "adjusted", "adjusted_lag")
        )
        seasonal = lag + graph.op("Sigmoid", change) * (adjusted - before)
        mixed = smooth + graph.op("Sigmoid", part - 1.0) * (seasonal - smooth)
        plain, negative = graph.ops("Split", mixed, num_outputs=2, axis=0)
        of_plain, of_negative = graph.ops("Split", free * graph.op("Sigmoid", is_free), num_outputs=2, axis=0)
        return (plain + negative) * 0.5 + (of_plain - of_negative) * 0.25

    def _appended(self, past: Value, newest: Value) -> Value:
        """Return ``past (row, kept)`` with the newest in place of the oldest."""
        joined = self.graph.concat(past, newest, axis=1)
        return joined.slice(1, newest.size(1))

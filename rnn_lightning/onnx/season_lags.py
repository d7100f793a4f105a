"""How far back the steps of rows of different seasons look, in an ONNX graph."""

from typing import NamedTuple

import numpy as np

from rnn_lightning.onnx.graph import Graph, Value
from rnn_lightning.pretrained.season_track import PROFILE_SEASONS

NUM_KEPT_OF_PHASE = len(PROFILE_SEASONS) + 1
"""Columns that are kept of each phase: its profiles, and the number of seasons they are from."""

LONG_SEASON, MIN_AVERAGED = 4, 8
"""See ``average_length``: the season from which the average is that of one season, and steps for others."""


class Places(NamedTuple):
    """Positions ``(row, number)`` in the past of each row."""

    columns: Value
    number: int


class Lags:
    """Places in the past of each row, which is kept newest last, and what else its season says.

    Args:
        graph: the graph.
        season: ``(row, 1)`` integers, the season of each row, at least 1.
        longest: ``(1,)``, the longest of all.

    Attributes:
        of_values, of_adjusted, of_average, season_ends: places in ``num_kept`` steps.
        next_phase, this_phase: ``(row, 4)``, places in the profiles of all phases.
        in_average, in_season: ``(row, kept)``, 1 for the steps that are summed.
        least_ages: ``(row, 8)``, the age from which there are the first quantities.
    """

    def __init__(self, graph: Graph, season: Value, longest: Value) -> None:
        one, two = np.array(1), np.array(2)
        half, ones = graph.op("Div", season, two), graph.op("Min", season, one)
        whole = graph.op("Div", graph.constant(np.array(MIN_AVERAGED)), season) * season
        length = graph.op("Where", season.reaches(np.array(LONG_SEASON)), season, whole)
        twice = season * two
        self.graph, self.longest = graph, longest
        self.num_kept = graph.op("Max", longest * two, np.array([MIN_AVERAGED + 1]))

        def places(*back: Value) -> Places:
            return Places(self.num_kept - one - graph.concat(*back, axis=1), len(back))

        self.of_values = places(ones, season - one, season, twice - one, half)
        self.of_adjusted, self.of_average = places(ones, season), places(length)
        self.season_ends = places(ones - one, season)
        columns = np.arange(NUM_KEPT_OF_PHASE)[None]
        self.next_phase, self.this_phase = (
            first * np.array(NUM_KEPT_OF_PHASE) + columns
            for first in (longest + half - season, longest - season)
        )
        steps = graph.op("Range", np.array(0), graph.op("Squeeze", self.num_kept), one)
        back = self.num_kept - steps  # (kept,), 1 for the newest
        self.in_average, self.in_season = (part.reaches(back).cast("FLOAT") for part in (length, season))
        ages = (ones - two, ones, ones - two, ones, season, season - one, season, twice - one)
        self.least_ages = graph.concat(*ages, axis=1).cast("FLOAT")
        self.season, self.length = season.cast("FLOAT"), length.cast("FLOAT")
        self.twice_half = (half * two).cast("FLOAT")
        self.half_if_even = (self.twice_half - self.season + 1.0) * 0.5
        self.log_season = graph.op("Log", self.season) / 4.0

    def look(self, values: Value, places: Places) -> list[Value]:
        """Return the columns of ``values (row, kept)`` at some places, ``(row, 1)`` each."""
        found = self.graph.op("GatherElements", values, places.columns, axis=1)
        return [found.slice(1, column, column + 1) for column in range(places.number)]

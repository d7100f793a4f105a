"""The options by which a table is read; importing them needs neither torch nor polars."""

from collections import Counter
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from rnn_lightning.errors import InputError
from rnn_lightning.tables.frequency import Frequency

CALENDAR = {"month": 12, "weekday": 7, "hour": 24}
"""The calendar features and the number of values of each; weekday 0 is Monday."""

NUM_HOLIDAY_INPUTS = 3
"""The number of holidays in a step, and for one of at most a day whether the next or the last day is one."""

CalendarFeature = Literal["month", "weekday", "hour"]


COLUMNS = ("target_columns", "covariate_columns", "past_covariate_columns", "static_columns")
LISTS = (*COLUMNS, "calendar_features")
"""The options that name several columns, and all that are lists of names."""


@dataclass(kw_only=True, eq=False)
class TableOptions:
    """Options that say how a table is read.

    Args:
        id_column: column that names the series.
        time_column: column of time stamps: numbers, ISO dates, weeks and quarters such as 2018-W01 and
            2001Q1, dates such as 20240131 or 202401, timestamps with or without a time zone, or text in the
            format given by time_format.
        target_columns: columns to predict, one feature each.
        covariate_columns: columns that help to predict and are also known in the future; rows after the last
            known target have their future values.
        past_covariate_columns: columns that help to predict but are known only up to the last target, such as
            orders that lead sales. In training they are also unknown after the context. A network from
            scratch learns them.
        static_columns: columns with one value for each series: numbers or text. Each category of a text
            column is an input of its own, so that its input weights are its embedding; a category that was
            not in the fit counts as an equal mixture of all.
        static_categories: categories of static text columns; found in the table of the fit.
        calendar_features: inputs derived from the time stamps, past and future: one input per month, weekday
            or hour.
        holidays: country whose public holidays are inputs, past and future: its code such as DE, or DE-BY for
            a part of it. The inputs are the number of holidays in a step and, for steps of at most a day,
            whether the next or the previous day is a holiday. Needs the extra holidays.
        frequency: distance between two steps, if it cannot be detected or is detected wrongly: 1d, 1mo, 1h,
            15m and so on, 1me for ends of months, 1bd for business days, or a number if the time stamps are
            numbers rather than dates such as 20240131.
        time_format: format of time stamps that are not ISO, in strftime notation, such as %d.%m.%Y or %b-%y;
            %q is a quarter and %i a half-year.
        time_zone: time zone of the calendar, such as Europe/Berlin: stamps with a zone or offset are
            converted to it, others are read in it.
        interpolate: fill gaps inside a series by linear interpolation; otherwise their values stay unknown.
        every_step: write forecasts of all steps, including days of the week and times of day at which a
            series never, or hardly ever, had a value, such as Sundays.
        number_rows: number the rows of each series from 1, in table order, for a table without a time column;
            a table with only values and ids does not need this option.
        separator: column separator of a CSV file, "tab" for a tab; by default a comma, a tab in .tsv files,
            or the one that the header shows.
        decimal: decimal sign of numbers in a CSV file, a point or a comma, for files where 1,234 is
            ambiguous.
        scratch_folder: folder for files that hold the values of tables larger than memory.
        share_files: when several machines predict or validate, let each read its own part of the files of a
            folder or glob, sorted by name, so that no machine holds all series. All rows of a series must be
            in the files of one machine.
    """

    id_column: str = "unique_id"
    time_column: str = "ds"
    target_columns: list[str] | str = field(default_factory=lambda: ["y"])
    covariate_columns: list[str] | str = field(default_factory=list)
    past_covariate_columns: list[str] | str = field(default_factory=list)
    static_columns: list[str] | str = field(default_factory=list)
    static_categories: dict[str, list[str]] | None = None
    calendar_features: list[CalendarFeature] | CalendarFeature = field(default_factory=list)
    holidays: str | None = None
    frequency: str | float | None = None
    time_format: str | None = None
    time_zone: str | None = None
    interpolate: bool = False
    every_step: bool = False
    number_rows: bool = False
    separator: str | None = None
    decimal: Literal[".", ","] | None = None
    scratch_folder: str | None = None
    share_files: bool = False

    def __post_init__(self) -> None:
        for name in LISTS:
            given = getattr(self, name)
            names = [given] if isinstance(given, str) or given is None else list(given)
            if wrong := [each for each in names if not isinstance(each, str)]:
                raise InputError(f"`{name}` has {wrong[0]!r}, which is no text: write names in quotes.")
            setattr(self, name, names)
        self.separator = "\t" if self.separator in ("tab", r"\t") else self.separator
        self.num_features = len(self.target_columns)
        self.num_covariates = len(self.covariate_columns)
        self._require_distinct_columns()
        for feature, count in Counter(self.calendar_features).items():
            if feature not in CALENDAR or count > 1:
                raise InputError(
                    f"`calendar_features` has {feature!r}: give each of {', '.join(CALENDAR)} once."
                )
            self.num_covariates += CALENDAR[feature]
        self.num_covariates += 2 * len(self.past_covariate_columns) + self.num_static
        self.num_covariates += NUM_HOLIDAY_INPUTS * (self.holidays is not None)
        if self.separator is not None and len(self.separator.encode()) != 1:
            raise InputError(f"`separator` must be one character, got {self.separator!r}.")
        self.share = 0, 1  # the number of this machine, and of all that share the files
        self.parsed_frequency = None if self.frequency is None else Frequency.parse(self.frequency)

    @property
    def number_columns(self) -> list[str]:
        """The columns of targets, then those of covariates, then those of covariates of the past."""
        return [*self.target_columns, *self.covariate_columns, *self.past_covariate_columns]

    @property
    def num_static(self) -> int:
        """The number of inputs of static columns, one for each number and for each category."""
        categories = self.static_categories or {}
        return sum(len(categories.get(name, [""])) for name in self.static_columns)

    def columns(self) -> list[tuple[str, str]]:
        """Return each column in use after the argument that names it."""
        others = [(argument, name) for argument in COLUMNS for name in getattr(self, argument)]
        return [("id_column", self.id_column), ("time_column", self.time_column), *others]

    def options(self) -> dict[str, Any]:
        """Return the arguments that a forecast of another table needs, in plain types."""
        left_out = ("path", "separator", "decimal", "scratch_folder", "share_files")
        return {each.name: getattr(self, each.name) for each in fields(self) if each.name not in left_out}

    def _require_distinct_columns(self) -> None:
        if not self.target_columns:
            raise InputError("`target_columns` is empty: name at least one column to predict.")
        seen: dict[str, str] = {}
        for argument, name in self.columns():
            if name in seen:
                raise InputError(f"`{argument}` has {name!r}, which is in `{seen[name]}` already.")
            seen[name] = argument

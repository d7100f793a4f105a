"""Formats of time stamps beyond those of ``strftime``: quarters, half-years, weeks, and dates in digits.

``%q`` is a quarter and ``%i`` a half-year; ``%^b`` and ``%~b`` are the name of a month in capitals and in
small letters.
"""

import itertools
import re
from collections.abc import Sequence
from datetime import date

import numpy as np
import polars as pl

WEEKDAY, DAY = r"%-?[uwaA]", r"%-?[dejDFxcsv+]"
MONTH, CLOCK, MINUTE = r"%-?[mbBh]", r"%-?[HIklTRXscr+]", r"%-?[MTRXscr+]"

TEXT_FORMS = (
    (r"(FY ?)?\d{4}([-/ .:]?[Qq])[1-4]", r"\1%Y\2%q"),
    (r"([Qq])[1-4]([-/ ]?)\d{4}", r"\1%q\2%Y"),
    (r"[1-4]([Qq][-/ ]?)\d{4}", r"%q\1%Y"),
    (r"([Qq])[1-4]([-/ '])\d\d", r"\1%q\2%y"),
    (r"[1-4]([Qq][-/ ']?)\d\d", r"%q\1%y"),
    (r"\d{4}([-/ ]?[HhSs])[12]", r"%Y\1%i"),
    (r"([HhSs])[12]([-/ ]?)\d{4}", r"\1%i\2%Y"),
    (r"[12]([HhSs][-/ ]?)\d{4}", r"%i\1%Y"),
    (r"((?:KW|CW|[Ww]) ?)\d\d?([-/ ])\d{4}", r"\1%V\2%G"),
    (r"(\d{4})([- ]?[Ww])\d\d?", r"%G\2%V"),
    (r"\d{4}(M)\d\d?", r"%Y\1%m"),
    (r"(\d{4})([- ]?[Ww])\d\d(-?)[1-7]", r"%G\2%V\3%u"),
    (r"\d{4}-\d{3}", "%Y-%j"),
    (r"\d{4}([/.])\d\d?[/.]\d\d?", r"%Y\1%m\1%d"),
    (r"\d{4}年\d\d?月\d\d?日", "%Y年%m月%d日"),
    (r"\d{4}-\d\d-\d\d([T ])\d\d", r"%Y-%m-%d\1%H"),
    (r"\d{8}([T_ -])\d{4}(Z?)", r"%Y%m%d\1%H%M\2"),
    (r"\d{8}([T_ -])\d{6}(Z?)", r"%Y%m%d\1%H%M%S\2"),
)
"""Stamps of one meaning only, and their formats."""

MONTH_OF_YEAR = r"^(0[1-9]|1[0-2])\.(19|20)\d\d$"
"""Months such as 01.2024, which are no numbers."""

YEAR_AND_PART = (r"^(?P<year>\d{4})[-/:](?P<part>\d\d?)$", r"^(?P<part>\d\d?)[-/.](?P<year>\d{4})$")

DIGIT_FORMS = {
    5: ("%Y%q", "%Y%i", "%y%m%d", "%y%j"),
    6: ("%Y%m", "%y%m%d", "%d%m%y", "%m%d%y", "%G%V", "%Y.%q", "%Y.%i"),
    7: ("%Y%j", "%Y.%m"),
    8: ("%Y%m%d", "%d%m%Y", "%m%d%Y", "%y%m%d%H"),
    10: ("%Y%m%d%H", "%y%m%d%H%M"),
    12: ("%Y%m%d%H%M",),
    14: ("%Y%m%d%H%M%S",),
}
"""Formats of dates that could be numbers, by the number of digits."""

SURE_DIGITS = 8
"""Numbers with so many digits or more that are all dates are not there by chance."""

WIDTHS = {"Y": 4, "G": 4, "j": 3, "q": 1, "i": 1, ".": 1}

FUTURE_YEARS = 20
"""Two-digit years are the latest that are at most so many years ahead."""

MONTH_NAME = "(?i)(Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)"

SAMPLE_ROWS = 2000


def detect_text_form(text: pl.Series) -> str:
    """Return the format of stamps whose first one can mean one date only, or an empty text."""
    first = str(text[0])
    for pattern in YEAR_AND_PART:
        if re.fullmatch(pattern, first):
            return _form_of_part(text, pattern)
    for pattern, form in TEXT_FORMS:
        if re.fullmatch(pattern, first):
            return re.sub(pattern, form, first)
    return ""


def _form_of_part(text: pl.Series, pattern: str) -> str:
    """Return the format of years with a month, or with a quarter, half-year or week if that is no month."""
    sign, names = re.sub(r"\d", "", str(text[0])), re.findall("year|part", pattern)
    parts, years = (
        text.str.extract(pattern, names.index(name) + 1).drop_nulls() for name in ("part", "year")
    )
    numbers, kind = parts.cast(pl.Int32).to_numpy(), "%m"
    if is_double_year(numbers, years.cast(pl.Int32).to_numpy()):
        return ""
    num_late = int((numbers > 12).sum())
    if numbers.max() <= 53 and num_late > 2 and 4 * num_late >= len(numbers):  # not one wrong month
        kind = "%V"
    elif (parts.str.len_chars() == 1).all() and years.n_unique() > 1:
        kind = {4: "%q", 2: "%i"}.get(int(numbers.max()), "%m")  # else eight months or more miss in each year
    year = "%G" if kind == "%V" else "%Y"
    return sign.join(kind if name == "part" else year for name in names)


def is_double_year(parts: np.ndarray, years: np.ndarray) -> bool:
    """Return whether all parts are the years after ``years``, as in the season 2001/02."""
    return len(parts) > 2 and len(parts) == len(years) and bool((parts == (years + 1) % 100).all())


def parse(text: pl.Series, form: str, unit: str = "us") -> pl.Series:
    """Return dates or datetimes; null where text has another format.

    A year, half-year, quarter, month or week alone gets its first day, and an hour alone gets minutes.
    """
    if part := re.search("%[qi]", form):
        text, form = _with_month(text, form[: part.start()], form[part.end() :], 3 if "q" in part[0] else 6)
    added = []
    if re.search("%-?[GVW]", form) and not re.search(WEEKDAY, form):
        added.append((" %u", " 1"))
    elif re.search("%-?U", form) and not re.search(WEEKDAY, form):
        added.append((" %w", " 0"))
    elif not re.search(f"{DAY}|%-?[VWU]", form):
        added += [] if re.search(MONTH, form) else [(" %m", " 01")]
        added.append((" %d", " 01"))
    if re.search(CLOCK, form) and not re.search(MINUTE, form):
        added.append((" %M", " 00"))
    form, text = form + "".join(each for each, _ in added), text + "".join(each for _, each in added)
    if not re.search(CLOCK, form):
        return text.str.to_date(form, strict=False)
    return text.str.to_datetime(form, time_unit=unit, strict=False)  # type: ignore[arg-type]


def _with_month(text: pl.Series, before: str, after: str, months: int) -> tuple[pl.Series, str]:
    """Return text and format with the first month of a quarter or half-year in the place of its digit."""
    before_pattern, after_pattern = (
        "".join(r"[0-9]+" if part[0] == "%" else re.escape(part) for part in re.findall("%-?.|[^%]+", form))
        for form in (before, after)
    )
    pattern = f"^({before_pattern})([1-{12 // months}])({after_pattern})$"
    head, digit, tail = (text.str.extract(pattern, group) for group in (1, 2, 3))
    month = ((digit.cast(pl.Int32, strict=False) - 1) * months + 1).cast(pl.String).str.zfill(2)
    return head + month + tail, f"{before}%m{after}"


def write(stamps: pl.Series, form: str) -> pl.Series:
    """Return stamps as text."""
    text = pl.Series(stamps.name, [""]).new_from_index(0, len(stamps))
    for part in filter(None, re.split(r"(%[\^~][A-Za-z]|%i)", form)):
        if part == "%i":
            written = ((stamps.dt.month() - 1) // 6 + 1).cast(pl.String)
        elif part[:2] in ("%^", "%~"):
            name = stamps.dt.strftime("%" + part[2])
            written = name.str.to_uppercase() if part[1] == "^" else name.str.to_lowercase()
        else:
            written = stamps.dt.strftime(part)
        text = text + written
    return text


class WrittenForm:
    """The variation of a format, with or without zeros and capitals, in which stamps are written.

    Args:
        form: the format that reads them.
    """

    def __init__(self, form: str) -> None:
        self.choices = [
            [part] if part[:1] != "%" or len(part) != 2 else
            [part, f"%^{part[1]}", f"%~{part[1]}"] if part[1] in "bBaA" else [part, f"%-{part[1]}"]
            for part in re.split("(%[dmHIjyVbBaA])", form)
        ]  # fmt: skip

    @property
    def form(self) -> str:
        """The variation found so far."""
        return "".join(choice[0] for choice in self.choices)

    def observe(self, text: pl.Series, stamps: pl.Series) -> str:
        """Keep the variations that write most stamps as they are in ``text``, and return the first."""
        if all(len(choice) == 1 for choice in self.choices):
            return self.form
        text, stamps = (each.gather_every(max(1, len(each) // SAMPLE_ROWS)) for each in (text, stamps))
        best, most = [choice[0] for choice in self.choices], -1
        for chosen in map(list, itertools.product(*self.choices)):
            if (same := _num_equal(text, stamps, chosen)) > most:
                best, most = chosen, same
            if most == len(text):
                break
        for place, choice in enumerate(self.choices):  # the 10th to the 19th show nothing of zeros
            others = [each for each in choice if each != best[place]]
            before, after = best[:place], best[place + 1 :]
            tied = (each for each in others if _num_equal(text, stamps, [*before, each, *after]) == most)
            self.choices[place] = [best[place], *tied]
        return self.form


def _num_equal(text: pl.Series, stamps: pl.Series, parts: Sequence[str]) -> int:
    """Return how many stamps are written as they are in ``text``."""
    return int((write(stamps, "".join(parts)) == text).sum())


def find_digit_form(digits: pl.Series) -> tuple[str, list[str]]:
    """Return the format of dates in digits if it is sure, else all that are possible.

    It is sure if the numbers jump as dates do, from 201912 to 202001. Numbers without a jump are numbers as
    well.

    Args:
        digits: text of digits, such as ``201912`` or ``2019.12``.
    """
    digits = digits.unique()
    lengths = digits.str.len_chars()
    fewest, most = lengths.to_numpy().min(), lengths.to_numpy().max()
    holes = num_holes(digits.str.replace(".", "", literal=True).cast(pl.Int64, strict=False).to_numpy())
    found: list[tuple[int, str]] = []
    for form in DIGIT_FORMS.get(most, ()) if digits.len() > 1 else ():
        width, is_padded = width_of(form), not form.startswith(("%Y", "%G"))
        if fewest < (width - 1 if is_padded else width) or ("." in form) != ("." in str(digits[0])):
            continue
        dates = parse(digits.str.zfill(width), form)
        is_short = "%y" in form
        if dates.has_nulls() or not (is_short or dates.dt.year().is_between(1800, 2199).all()):
            continue
        if most >= SURE_DIGITS and not is_padded:
            return form, []
        found.append((_date_holes(dates), form))
    found.sort(key=lambda each: each[0])
    is_one = [each[0] for each in found].count(found[0][0]) == 1 if found else False
    if is_one and (found[0][0] < holes or most >= SURE_DIGITS):
        return found[0][1], []
    likely = (form for num, form in found if num <= holes and form != "%y%j")
    return "", [form for form in likely if fewest == width_of(form)]


def width_of(form: str) -> int:
    """Return the number of characters of dates in digits."""
    return sum(WIDTHS.get(part[-1], 2) for part in re.findall(r"%.|\.", form))


def shown(form: str) -> str:
    """Return a format of digits as people write it, such as YYYYMMDD."""
    names = {"Y": "YYYY", "G": "YYYY", "y": "YY", "m": "MM", "d": "DD", "H": "HH", "M": "MM", "S": "SS"}
    return re.sub("%(.)", lambda part: (names | {"j": "DDD", "q": "Q", "i": "H", "V": "WW"})[part[1]], form)


def num_holes(numbers: np.ndarray) -> int:
    """Return the number of steps without a number on the widest regular grid of all."""
    numbers = np.unique(numbers.astype(np.int64))
    step = int(np.gcd.reduce(np.diff(numbers))) if len(numbers) > 1 else 1
    return int(numbers[-1] - numbers[0]) // step + 1 - len(numbers)


def _date_holes(dates: pl.Series) -> int:
    months = (dates.dt.year() * 12 + dates.dt.month()).to_numpy()
    if len(np.unique(months)) == len(months):
        return num_holes(months)
    return num_holes(dates.to_physical().to_numpy())


def first_of_century(dates: pl.Series, form: str) -> int | None:
    """Return the first of the hundred years that two-digit years mean; None for years of four digits."""
    if not re.search("%-?[ygDx]", form) or "%C" in form:
        return None
    years = np.unique(dates.drop_nulls().dt.year().to_numpy() % 100)
    if len(years) == 0:
        return None
    first = int(years[(np.diff(np.append(years, years[0] + 100)).argmax() + 1) % len(years)])
    latest = date.today().year + FUTURE_YEARS - int(((years - first) % 100).max())
    return latest - (latest - first) % 100


def in_century(dates: pl.Series, first: int) -> pl.Series:
    """Return dates with the years of the hundred that begin with ``first``."""
    years = dates.dt.year()
    moved = (first + (years - first) % 100 - years).fill_null(0)
    if not (moved != 0).any():
        return dates
    by = moved.cast(pl.String) + "y"
    return pl.select(pl.lit(dates).dt.offset_by(pl.lit(by))).to_series().alias(dates.name)


def suggest_form(text: pl.Series) -> str:
    """Return formats in which text of dates could be written, for a message; empty if none is found."""
    first = str(text[0])
    if re.fullmatch(r"FY ?\d\d", first):
        return first[:-2] + "%y"
    if re.fullmatch(YEAR_AND_PART[0], first):  # a season such as 2001/02
        return ""
    form = re.sub("(?i)(January|February|March|April|June|July|August|September|October|November|December)",
                  "%B", first)  # fmt: skip
    form = re.sub(rf"{MONTH_NAME}(?![a-z])", "%b", form)
    form = re.sub("(Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day", "%A", form)
    form = re.sub("(Mon|Tue|Wed|Thu|Fri|Sat|Sun)(?![a-z])", "%a", form)
    form = re.sub(r"\d{4}-\d\d-\d\d", "%Y-%m-%d", form)
    form = re.sub(r"\d?\d:\d\d(:\d\d)?(?= ?[AaPp][Mm])", lambda m: "%I:%M:%S" if m[1] else "%I:%M", form)
    form = re.sub(r"(?<!\d)\d?\d:\d\d(:\d\d)?", lambda m: "%H:%M:%S" if m[1] else "%H:%M", form)
    form = re.sub(r" [AaPp][Mm]", " %p", form)
    form = re.sub(r"(?<!\d)\d{4}(?!\d)", "%Y", form, count=1)
    numbers = len(re.findall(r"(?<![\d%])\d\d?(?!\d)", form))
    if "%b" in form or "%B" in form:
        orders = [["%d"] if "%Y" in form else ["%y"] if numbers == 1 else ["%d", "%y"]]
    elif numbers == 1:
        orders = [["%q" if re.search("(?i)q", form.replace("%", "")) else "%m"]]
    else:
        orders = [["%d", "%m"]] if "." in form else [["%m", "%d"], ["%d", "%m"]]
        if "%Y" not in form:
            first_part, last_part = (text.str.extract(part) for part in (r"^(\d\d?)", r"^\D*\d+\D\d+\D(\d+)"))
            orders = [[*order, "%y"] for order in orders]
            if first_part.n_unique() < last_part.n_unique():
                orders.append(["%y", "%m", "%d"])
    fitting, sample = dict[str, int](), text.head(SAMPLE_ROWS)
    for order in orders:
        parts = iter(order)
        guess = re.sub(r"(?<![\d%])\d\d?(?!\d)", lambda m, parts=parts: next(parts, m[0]), form)  # type: ignore[misc]
        try:
            if re.search("%[Yy]", guess) and re.search("%[mbBq]", guess):
                dates = parse(sample, guess)
                if not dates.has_nulls():
                    fitting[guess] = _date_holes(dates)
        except pl.exceptions.PolarsError:
            break
    fewest = min(fitting.values(), default=0)
    return " or ".join(guess for guess, holes in fitting.items() if holes == fewest)

"""Numbers as text: decimal commas, thousands separators, true and false."""

import polars as pl

SPACES = " \u00a0\u202f'\u2019"
"""Signs that separate thousands and mean nothing else."""

THOUSANDS = rf"^[+-]?\d{{1,3}}([,{SPACES}]\d{{3}})+(\.\d*)?$"
EXPONENT = r"([eE][+-]?\d+)?"
DECIMAL_COMMA = rf"^[+-]?(\d+|\d{{1,3}}([.{SPACES}]\d{{3}})+)?(,\d*)?{EXPONENT}$"


def _sure(decimal: str, thousands: str) -> str:
    """Return what only a number with this decimal sign and these thousands matches."""
    return (
        rf"^[+-]?(\d*{decimal}(\d{{0,2}}|\d{{4,}})|0{decimal}\d+|\d{{4,}}{decimal}\d+"
        rf"|\d{{1,3}}({thousands}\d{{3}})+{decimal}\d*|\d{{1,3}}({thousands}\d{{3}}){{2,}}){EXPONENT}$"
    )


SURE_COMMA, SURE_POINT = _sure(",", r"\."), _sure(r"\.", ",")

POINT, SURE_THOUSANDS = r"^[+-]?\d{1,3}\.\d{3}$", r"\.\d{3}[.,]"
"""A point that can be that of thousands or of decimals, and one that is that of thousands."""


def find_decimal(text: pl.Series, separator: str | None) -> str | None:
    """Return the decimal sign of a column; None if 1,234 can be either, or 1.234 between semicolons.

    Args:
        text: the cells, some of which have a sign.
        separator: the sign between two columns.
    """
    if not has(text, ","):
        if has_match(text, r"^[+-]?\d{1,3}(\.\d{3}){2,}$"):
            return ","
        points = text.filter(text.str.contains(".", literal=True))
        can_be_thousands = points.str.contains(POINT) & ~points.str.contains(r"^[+-]?0")
        return None if separator == ";" and len(points) and can_be_thousands.all() else "."
    text = text.str.replace_all(rf"[{SPACES}](\d{{3}})", "$1")
    if has_match(text, SURE_POINT):  # if points and commas are mixed, the reader names a cell
        return "."
    if has_match(text, SURE_COMMA):
        return ","
    return None if has_match(text, THOUSANDS) else "."


def has(text: pl.Series, sign: str) -> bool:
    """Return True if any cell has the sign."""
    return bool(text.str.contains(sign, literal=True).any())


def has_match(text: pl.Series, pattern: str) -> bool:
    """Return True if any cell matches the pattern."""
    return bool(text.str.contains(pattern).any())


def plain_numbers(text: pl.Series, decimal: str) -> pl.Series:
    """Return text with decimal points and without thousands separators, true as 1 and false as 0."""
    lower = text.str.to_lowercase()
    if len(text) and lower.drop_nulls().is_in(["true", "false", ""]).all():
        return lower.replace({"true": "1", "false": "0"})
    if decimal == ",":
        plain = text.str.replace_all(f"[.{SPACES}]", "").str.replace(",", ".", literal=True)
        return plain.zip_with(text.str.contains(DECIMAL_COMMA).fill_null(False), text)
    plain = text.str.replace_all(f"[,{SPACES}]", "")
    return plain.zip_with(text.str.contains(THOUSANDS).fill_null(False), text)

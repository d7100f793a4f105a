"""Numbers as text: decimal commas, thousands separators, true and false."""

import polars as pl

THOUSANDS = r"^[+-]?\d{1,3}([, \u00a0]\d{3})+(\.\d*)?$"
SURE_THOUSANDS = r"^[+-]?\d{1,3}(,\d{3})+\.\d*$|^[+-]?\d{1,3}(,\d{3}){2,}$"
DECIMAL_COMMA = r"^[+-]?(\d+|\d{1,3}([. \u00a0]\d{3})+)?(,\d*)?$"
SURE_DECIMAL_COMMA = r"^[+-]?(\d*,(\d{0,2}|\d{4,})|0,\d+|\d{4,},\d+|\d{1,3}(\.\d{3})+,\d*)$"


def find_decimal(text: pl.Series) -> str | None:
    """Return the decimal sign of a column; None if 1,234 can be either."""
    with_comma = text.filter(text.str.contains(",", literal=True).fill_null(False))
    if len(with_comma) == 0 or with_comma.str.contains(SURE_THOUSANDS).any():
        return "."
    if text.str.contains(".", literal=True).any() and not with_comma.str.contains(r"\.\d{3},").any():
        return "."  # points and commas are not mixed: the reader names a cell
    if with_comma.str.contains(SURE_DECIMAL_COMMA).any():
        return ","
    return None if with_comma.str.contains(THOUSANDS).any() else "."


def plain_numbers(text: pl.Series, decimal: str) -> pl.Series:
    """Return text with decimal points and without thousands separators, true as 1 and false as 0."""
    lower = text.str.to_lowercase()
    if len(text) and lower.drop_nulls().is_in(["true", "false", ""]).all():
        return lower.replace({"true": "1", "false": "0"})
    if decimal == ",":
        plain = text.str.replace_all(r"[. \u00a0]", "").str.replace(",", ".", literal=True)
        return plain.zip_with(text.str.contains(DECIMAL_COMMA).fill_null(False), text)
    plain = text.str.replace_all(r"[, \u00a0]", "")
    return plain.zip_with(text.str.contains(THOUSANDS).fill_null(False), text)

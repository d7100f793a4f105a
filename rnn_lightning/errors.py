"""The one exception for what a user can put right, and how messages show names and numbers."""


class InputError(ValueError):
    """Wrong input: the message says the rule, what was given, and what to change.

    It names an argument in backticks, `horizon`; the command line shows the option that sets it. Control
    characters, which names in tables may hold, are escaped: a terminal would obey them.
    """

    def __init__(self, message: str) -> None:
        shown = (sign if sign.isprintable() or sign == "\n" else repr(sign)[1:-1] for sign in message)
        super().__init__("".join(shown))


def quoted(name: str, length: int = 80) -> str:
    """Return a name in quotes, shortened in the middle if it is longer than ``length``."""
    half = length // 2
    return repr(name if len(name) <= length else f"{name[:half]}...{name[-half:]}")


def counted(number: int, noun: str) -> str:
    """Return a number with its noun: ``1 step``, ``1,200 steps``, ``2 series``."""
    return f"{number:,} {noun if number == 1 or noun == 'series' else noun + 's'}"


def require_counts(**counts: int | None) -> None:
    """Raise InputError for a count that is no whole number from 1 on; the keywords name the arguments."""
    for name, count in counts.items():
        if count is not None and not hasattr(count, "__index__"):
            raise InputError(f"`{name}` must be a whole number, got {count!r}.")
        if count is not None and count < 1:
            raise InputError(f"`{name}` must be at least 1, got {count}.")

"""The one exception for what a user can put right, and names as messages show them."""


class InputError(ValueError):
    """Wrong input: says the rule, what was given, and what to change, in the names the user typed.

    The command line prints it as one line and exits with 2; every other exception keeps its traceback.
    Control characters, which names in tables may hold, are shown as escapes.
    """

    def __init__(self, message: str) -> None:
        super().__init__(printable(message))


def printable(text: str) -> str:
    """The text with control characters escaped, which a terminal would obey; lines stay lines."""
    return "".join(sign if sign.isprintable() or sign == "\n" else repr(sign)[1:-1] for sign in text)


def quoted(name: str, length: int = 80) -> str:
    """A name in quotes, shortened in the middle if it is longer than ``length``."""
    half = length // 2
    return repr(name if len(name) <= length else f"{name[:half]}...{name[-half:]}")

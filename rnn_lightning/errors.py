"""The one exception for what a user can put right."""


class InputError(ValueError):
    """Wrong input: says the rule, what was given, and what to change, in the names the user typed.

    The command line prints it as one line and exits with 2; every other exception keeps its traceback.
    """

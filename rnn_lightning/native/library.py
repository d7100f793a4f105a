"""The compiled library of ``rnn.h``, found beside this file. Everything here goes without PyTorch."""

import ctypes
import functools
import os
import warnings
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

SWITCH = "RNN_LIGHTNING_NATIVE"
"""The environment variable that chooses the recurrences of PyTorch if it is ``0``."""

INT = ctypes.c_int64
POINTER = ctypes.c_void_p
POINTERS = ctypes.POINTER(ctypes.c_void_p)


class Task(ctypes.Structure):
    """``struct rnn_task``."""

    _fields_ = [
        *((name, INT) for name in ("cell", "feedback", "size", "threads")),
        *((name, INT) for name in ("rows", "steps", "inputs", "hidden", "layers", "outputs", "first")),
        *((name, POINTER) for name in ("x", "h0", "c0", "begin")),
        ("weights", POINTERS),
        *(
            (name, POINTER)
            for name in ("y", "filled", "h", "c", "saved", "dy", "dh", "dc", "dx", "dh0", "dc0")
        ),
        ("dweights", POINTERS),
    ]


class SeasonalTask(ctypes.Structure):
    """``struct seasonal_task``."""

    _fields_ = [
        *((name, INT) for name in ("threads", "rows", "steps", "season", "hidden", "head", "covariates")),
        *((name, INT) for name in ("continues", "free", "levels", "slopes", "profiles", "differences")),
        *((name, INT) for name in ("forecasts", "mixed_levels", "mixed_slopes")),
        *((name, POINTER) for name in ("constants", "sums")),
        ("mixed", ctypes.POINTER(INT)),
        *((name, POINTER) for name in ("x", "next", "state")),
        ("weights", POINTERS),
        *((name, POINTER) for name in ("predictions", "values", "after", "saved")),
        *((name, POINTER) for name in ("d_predictions", "d_values", "d_after", "d_state")),
        ("d_weights", POINTERS),
    ]


@functools.cache
def find() -> ctypes.CDLL | None:
    """The library, None where it was not built."""
    for suffix in EXTENSION_SUFFIXES:
        path = Path(__file__).with_name(f"_rnn{suffix}")
        if path.exists():
            return _declared(ctypes.CDLL(str(path)))
    return None


def _declared(library: ctypes.CDLL) -> ctypes.CDLL | None:
    for name, task in (("rnn", Task), ("seasonal", SeasonalTask)):
        size = f"{name}_task_size"
        if not hasattr(library, size) or INT.in_dll(library, size).value != ctypes.sizeof(task):
            return None  # built from other sources
        kinds = {"saved": INT, "state": INT, "forward": ctypes.c_int, "backward": ctypes.c_int}
        for what, kind in kinds.items():
            if (name, what) != ("rnn", "state"):
                function = getattr(library, f"{name}_{what}")
                function.argtypes, function.restype = [ctypes.POINTER(task)], kind
    library.rnn_instruction_set.argtypes, library.rnn_instruction_set.restype = (
        [ctypes.c_int],
        ctypes.c_char_p,
    )
    library.rnn_activations.argtypes, library.rnn_activations.restype = [INT, POINTER, POINTER, POINTER], None
    return library


@functools.cache
def load() -> ctypes.CDLL | None:
    """The library; None where ``SWITCH`` says so, and, with one warning, where it was not built."""
    if os.environ.get(SWITCH) == "0":
        return None
    library = find()
    if library is None:
        warnings.warn(
            "the native kernel was not built: recurrent networks run on the slower operators of PyTorch. "
            "Install a C compiler (such as gcc) and reinstall rnn-lightning.",
            RuntimeWarning,
            stacklevel=2,
        )
    return library


def describe() -> str:
    """Which path is in use, for ``--version``."""
    if os.environ.get(SWITCH) == "0":
        return f"PyTorch operators on the CPU ({SWITCH}=0)"
    library = find()
    if library is None:
        return "PyTorch operators on the CPU (the native kernel was not built)"
    return f"native CPU kernel ({library.rnn_instruction_set(-1).decode()})"

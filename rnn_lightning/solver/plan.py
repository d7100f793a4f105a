"""What each epoch of a fit does: a pure function of the arguments, so that a resumed fit goes on with it."""

from itertools import pairwise
from typing import Literal, NamedTuple

from rnn_lightning.errors import InputError

NOISES = (0.0, 1e-4, 1e-3)
"""Input noise that ``auto`` tries, in standard deviations of transformed values."""

RIDGES = (1e-6, 1e-8, 1e-10)
"""Ridges that ``auto`` goes through within a fit: a small one from the start blocks stiff systems."""

Number = float | Literal["auto"]


class Stage(NamedTuple):
    """Some iterations of the solver.

    Attributes:
        noise: standard deviation of the input noise; of a refit, that of the best stage instead.
        ridge: ridge of the readout; of a refit, that of the best stage instead.
        iterations: iterations of L-BFGS; with none the readout is solved for the weights as they are.
        start: the weights to start from.
        is_new_loss: another loss than that of the stage before.
        is_refit: train on the validation split too.
    """

    noise: float
    ridge: float
    iterations: int
    start: Literal["present", "initial", "best"] = "present"
    is_new_loss: bool = False
    is_refit: bool = False


def candidates(number: Number, auto: tuple[float, ...]) -> tuple[float, ...]:
    """Return the values to try."""
    return auto if number == "auto" else (float(number),)


def reservoir_plan(input_noise: Number, ridge: Number) -> list[list[Stage]]:
    """Return the one epoch of a reservoir: a solution for each noise and ridge."""
    noises, ridges = candidates(input_noise, (*NOISES, 1e-2)), candidates(ridge, RIDGES)
    return [[Stage(noise, value, 0, "initial", True) for noise in noises for value in ridges]]


def projection_plan(
    num_epochs: int, iterations: int, input_noise: Number, ridge: Number, validates: bool
) -> list[list[Stage]]:
    """Return the stages of each epoch of variable projection.

    Each noise gets an equal part of the epochs, in which the ridge falls; the last epochs refit on all values.
    Without validation data nothing can be chosen: the middle noise is taken.
    """
    noises = candidates(input_noise, NOISES if validates else NOISES[1:2])
    ridges = candidates(ridge, RIDGES)
    num_refit = max(1, num_epochs // 12) if validates and num_epochs > 3 * len(noises) else 0
    num_each, more = divmod(num_epochs - num_refit, len(noises))
    if num_each < 1:
        rule = f"each of {len(noises)} values of `input_noise` needs one"
        raise InputError(f"`max_epochs` {num_epochs} is too low: {rule}; raise it, or give the noise.")
    epochs = []
    for noise, size in zip(noises, (num_each + (index < more) for index in range(len(noises))), strict=True):
        falling = [ridges[epoch * len(ridges) // size] if size > 1 else ridges[-1] for epoch in range(size)]
        epochs.append([Stage(noise, falling[0], iterations, "initial", True)])
        epochs += [[Stage(noise, new, iterations, is_new_loss=new != old)] for old, new in pairwise(falling)]
    starts: list[Literal["present", "best"]] = ["best", *["present"] * num_refit]  # type: ignore[list-item]
    refits = [Stage(0.0, 0.0, iterations, start, start == "best", True) for start in starts[:num_refit]]
    return epochs + [[stage] for stage in refits]

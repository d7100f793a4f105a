"""What each epoch of a fit does: a pure function of the arguments, so that a resumed fit goes on with it."""

from typing import Literal, NamedTuple

from rnn_lightning.errors import InputError

NOISES = (0.0, 1e-5, 1e-4, 1e-3)
"""Input noise that ``auto`` tries, in standard deviations of transformed values."""

RIDGES = (1e-12, 1e-8, 1e-6)
"""Ridges that ``auto`` tries; the first is also the lowest to which the ridge falls."""

NOISE_WITHOUT_VALIDATION = 1e-4

Number = float | Literal["auto"]


class Stage(NamedTuple):
    """Some iterations of the solver.

    Attributes:
        noise: standard deviation of the input noise; None for that of the best stage before.
        ridge: ridge of the readout; None for that of the best stage before.
        iterations: iterations of L-BFGS; with none the readout is solved for the weights as they are.
        start: the weights to start from.
        fall: what the ridge is multiplied by, down to the lowest.
        is_refit: train on the validation split too.
    """

    noise: float | None
    ridge: float | None
    iterations: int
    start: Literal["present", "initial", "best"] = "present"
    fall: float = 1.0
    is_refit: bool = False


def candidates(number: Number, auto: tuple[float, ...]) -> tuple[float, ...]:
    """Return the values to try."""
    return auto if number == "auto" else (float(number),)


def reservoir_plan(input_noise: Number, ridge: Number) -> list[list[Stage]]:
    """Return the one epoch of a reservoir: a solution for each noise, then for each ridge with the best."""
    noises, ridges = candidates(input_noise, (*NOISES, 1e-2)), candidates(ridge, (*RIDGES, 1e-10))
    tried: list[tuple[float | None, float]] = [(noise, ridges[0]) for noise in noises]
    tried += [(None, value) for value in ridges[1:]]
    return [[Stage(noise, value, 0, "initial") for noise, value in tried]]


def projection_plan(
    num_epochs: int, iterations: int, input_noise: Number, ridge: Number, validates: bool
) -> list[list[Stage]]:
    """Return the stages of each epoch of variable projection.

    First each noise is tried, then each ridge with the best noise, for a tenth of the epochs at most. The
    best of these goes on, and a large ridge falls twice: a small one blocks stiff systems from the start. The
    last epochs refit on all values. Without validation data nothing can be chosen.
    """
    noises = candidates(input_noise, NOISES if validates else (NOISE_WITHOUT_VALIDATION,))
    ridges = candidates(ridge, RIDGES if validates else RIDGES[:1])
    tried: list[tuple[float | None, float]] = [(noise, ridges[0]) for noise in noises]
    tried += [(None, value) for value in ridges[1:]]
    num_refit = max(1, num_epochs // 12) if validates and num_epochs > 1 else 0
    num_trial = max(1, (num_epochs - num_refit) // (2 * len(tried))) if len(tried) > 1 else 0
    num_main = num_epochs - num_refit - num_trial * len(tried)
    if num_main < 1:
        rule = f"`max_epochs` {num_epochs} is too low to try {len(tried)} values of `input_noise` and `ridge`"
        raise InputError(f"{rule}: give them as numbers, or at least {len(tried) + 2} epochs.")
    stages = []
    for noise, value in tried if num_trial else []:
        stages += [Stage(noise, value, iterations, "initial")]
        stages += [Stage(noise, value, iterations)] * (num_trial - 1)
    first = Stage(None, None, iterations, "best") if num_trial else Stage(*(tried[0]), iterations, "initial")
    falls = {num_main // 3, 2 * num_main // 3} - {0} if ridge == "auto" else set()
    stages += [first]
    stages += [
        Stage(None, None, iterations, fall=1e-2 if epoch in falls else 1.0) for epoch in range(1, num_main)
    ]
    refits = [
        Stage(None, None, iterations, "present" if index else "best", 1.0, True) for index in range(num_refit)
    ]
    return [[stage] for stage in stages + refits]

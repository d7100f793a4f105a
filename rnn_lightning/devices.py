"""What devices want: large pieces of work on an accelerator, pinned memory, types that a CPU has."""

from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

ACCELERATOR_FACTOR = 16
"""An accelerator is given so many times more work by a call than a CPU: the time of a call hardly grows."""

MAX_DEVICE_BYTES = 2**30
"""The most bytes of values that are held in the memory of a GPU, where the training windows are cut then."""


def work_at_once(on_cpu: int, device: torch.device) -> int:
    """Return the size of the work of one call on a device, given the size that suits a CPU."""
    return on_cpu if device.type == "cpu" else ACCELERATOR_FACTOR * on_cpu


def copied_to(device: torch.device, values: Tensor) -> Tensor:
    """Return values on a device: to a GPU through pinned memory, so that the CPU does not wait for it."""
    if device.type == "cuda" and values.device.type == "cpu":
        return values.pin_memory().to(device, non_blocking=True)
    return values.to(device)


def held_on(device: torch.device, values: Any) -> Any:
    """Return values on a device, if they are in memory and fit there; else as they are."""
    if device.type == "cpu" or not isinstance(values, Tensor) or values.nbytes > MAX_DEVICE_BYTES:
        return values
    return values.float().to(device)


@cache
def has_bfloat16_lstm() -> bool:
    """Return True if this CPU has an LSTM in bfloat16; one without AVX-512 has none."""
    try:
        with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
            nn.LSTM(1, 1)(torch.zeros(1, 1, 1))
    except RuntimeError:
        return False
    return True

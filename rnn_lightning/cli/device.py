"""The device of a run for which the user names none."""

from typing import Any

import torch

GPU_HIDDEN_SIZE, GPU_BATCH_SIZE = 256, 1000
"""Hidden units, or windows in a batch, from which a GPU is faster than the native kernel on a CPU."""


def choose_accelerator(
    trainer: Any, network: Any, batch_size: int = 1, is_double: bool = False
) -> tuple[str, str]:
    """Return the accelerator for the Trainer, and a line that says why it is not the GPU.

    A network in float64, which a solver trains, runs on the CPU of a Mac, whose GPU has no such numbers. What
    is given is obeyed otherwise. A GPU is left alone below ``GPU_HIDDEN_SIZE`` and ``GPU_BATCH_SIZE``, and
    the GPU of a Mac always: the package computes there in float32, but nobody has measured it.

    Args:
        trainer: the options of the Trainer.
        network: the network of the run.
        batch_size: number of windows in a batch.
        is_double: whether its weights, or those of its checkpoint, are in float64.
    """
    if is_double and _is_mps(trainer.accelerator):
        return "cpu", "Device: the CPU, because a solver computes in float64, which the GPU of a Mac lacks."
    hidden_size = getattr(getattr(network, "recurrent", None), "hidden_size", GPU_HIDDEN_SIZE)
    is_given = (trainer.accelerator, trainer.devices, trainer.strategy) != ("auto",) * 3
    is_large = hidden_size >= GPU_HIDDEN_SIZE or batch_size >= GPU_BATCH_SIZE
    if is_given or (torch.cuda.is_available() and is_large):
        return trainer.accelerator, ""
    if torch.cuda.is_available():
        reason = f"faster below {GPU_HIDDEN_SIZE} hidden units and batches of {GPU_BATCH_SIZE:,}"
    elif torch.backends.mps.is_available():
        reason = "the GPU of a Mac is not chosen by itself"
    else:
        return trainer.accelerator, ""
    return "cpu", f"Device: the CPU ({reason}); set `accelerator` gpu for the GPU."


def _is_mps(accelerator: str) -> bool:
    """Return True if an accelerator of the Trainer stands for the GPU of a Mac."""
    from lightning.pytorch.accelerators import MPSAccelerator

    is_only_gpu = MPSAccelerator.is_available() and not torch.cuda.is_available()
    return accelerator == "mps" or (is_only_gpu and accelerator in ("auto", "gpu"))

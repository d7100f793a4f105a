"""Layers of ``torch.nn`` run by the native kernel: whether it can, and the call."""

from typing import Any, Literal

import torch
from torch import Tensor, nn

from rnn_lightning.native import library
from rnn_lightning.native.calls import CELLS
from rnn_lightning.native.operator import Recurred, recurrence

MAX_HIDDEN = 512
"""Hidden units up to which the kernel has been the faster, see ``benchmarks/native.py``.

Four blocks of rows share each reading of the weights. The products of PyTorch read them once for all rows.
"""


def runs(recurrent: nn.RNNBase, inputs: Tensor) -> bool:
    """Return True if the native kernel runs these layers: on a CPU, wherever it can."""
    return (
        recurrent.mode.lower() in CELLS
        and inputs.device.type == "cpu"
        and inputs.dtype in (torch.float32, torch.float64)
        and recurrent.hidden_size <= MAX_HIDDEN
        and not torch.is_autocast_enabled("cpu")
        and not (recurrent.training and recurrent.dropout > 0)
        and not torch.compiler.is_exporting()
        and library.load() is not None
    )


def run(
    recurrent: nn.RNNBase,
    readout: nn.Linear | None,
    inputs: Tensor,
    state: tuple[Tensor, ...] | None,
    feedback: Literal["given", "fill", "free"] = "given",
    start_step: Tensor | None = None,
    first_output_step: int = 0,
) -> Recurred:
    """Run the layers and their readout over ``inputs (batch, time, input)``, see ``operator.recurrence``."""
    cell, weights = recurrent.mode.lower(), kernel_weights(recurrent, readout)
    settings: dict[str, Any] = {"feedback": feedback, "begin": start_step, "first": first_output_step}
    return recurrence(cell, inputs, state, weights, **settings)


def kernel_weights(recurrent: nn.RNNBase, readout: nn.Linear | None = None) -> list[Tensor]:
    """Return the weights in the order of ``operator.recurrence``."""
    weights: list[Tensor] = [weight for layer in recurrent.all_weights for weight in layer]
    return weights if readout is None else [*weights, readout.weight, readout.bias]

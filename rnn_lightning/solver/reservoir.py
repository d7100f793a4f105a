"""Recurrent weights of an echo state network (Jaeger 2001), which are drawn and not trained."""

import torch
from torch import nn

from rnn_lightning.errors import InputError


@torch.no_grad()
def draw_reservoir(
    recurrent: nn.RNNBase, spectral_radius: float, input_scale: float, bias_scale: float
) -> None:
    """Draw uniform weights; the recurrent ones get the spectral radius, the others lie within their scale."""
    if recurrent.mode != "RNN_TANH":
        raise InputError("`solver` reservoir is for the `cell` rnn_tanh.")
    for w_input, w_hidden, b_input, b_hidden in recurrent.all_weights:
        w_hidden.uniform_(-1, 1)
        w_hidden.mul_(spectral_radius / torch.linalg.eigvals(w_hidden).abs().max())
        w_input.uniform_(-input_scale, input_scale)
        b_input.uniform_(-bias_scale, bias_scale)
        b_hidden.zero_()

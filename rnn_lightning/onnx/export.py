"""Export of a forecast to a file that other programs run."""

from pathlib import Path

from torch import nn

from rnn_lightning.errors import InputError
from rnn_lightning.files import atomic_file
from rnn_lightning.network import RecurrentNetwork


def export_onnx(network: nn.Module, path: str | Path) -> None:
    """Write the forecast of a network as an ONNX graph; ``onnx/forecast.py`` lists its inputs.

    Args:
        network: a ``RecurrentNetwork`` whose transforms have their statistics.
        path: the file, such as ``model.onnx``.

    Raises:
        InputError: if the package ``onnx`` is not installed, the network was not fitted, or it or one of its
            transforms has no form in ONNX.
    """
    try:
        from rnn_lightning.onnx.forecast import onnx_model
    except ModuleNotFoundError as error:
        if error.name != "onnx":
            raise
        raise InputError("export needs the package onnx: pip install 'rnn-lightning[onnx]'.") from error
    if not isinstance(network, RecurrentNetwork):
        raise InputError(f"{type(network).__name__} has no form in ONNX: fit a plain recurrent network.")
    if not bool(network.transforms.fitted):
        raise InputError("the network has not been fitted: load a checkpoint, or fit it first.")
    model = onnx_model(network)
    with atomic_file(path) as file:
        file.write(model.SerializeToString())

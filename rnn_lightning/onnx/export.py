"""Export of a forecast to a file that other programs run."""

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from torch import nn

from rnn_lightning.errors import InputError
from rnn_lightning.files import atomic_file

FORECASTS = {
    "rnn_lightning.network.RecurrentNetwork": "recurrent.RecurrentForecast",
    "rnn_lightning.pretrained.seasonal.SeasonalNetwork": "seasonal.SeasonalForecast",
}
"""For each class of networks the one in this folder that builds its forecast; none is imported before."""


def export_onnx(
    network: nn.Module, path: str | Path, intervals: Mapping[str, Any] | None = None
) -> tuple[list[str], list[str]]:
    """Write the forecast of a network as an ONNX graph; ``onnx/forecast.py`` lists its inputs and outputs.

    Args:
        network: a ``RecurrentNetwork`` or a ``SeasonalNetwork``, fitted or bundled, or its forecaster.
        path: the file, such as ``model.onnx``.
        intervals: widths of prediction intervals, see ``PredictionIntervals.table``; none if None.

    Returns:
        The names of its inputs and of its outputs.

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
    network = getattr(network, "network", network)
    names = [f"{kind.__module__}.{kind.__qualname__}" for kind in type(network).__mro__]
    module, _, builder = next((FORECASTS[name] for name in names if name in FORECASTS), "").partition(".")
    if not module:
        raise InputError(f"{type(network).__name__} has no form in ONNX: fit a plain recurrent network.")
    transforms: Any = network.transforms
    if not bool(transforms.fitted):
        raise InputError("the network has not been fitted: load a checkpoint, or fit it first.")
    kind = getattr(import_module(f"rnn_lightning.onnx.{module}"), builder)
    model = onnx_model(network, kind, intervals)
    with atomic_file(path) as file:
        file.write(model.SerializeToString())
    return [info.name for info in model.graph.input], [info.name for info in model.graph.output]

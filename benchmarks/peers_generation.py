"""Time the generation of another library: the part of ``generation.py --peers`` in its environment.

    python peers_generation.py darts '{"cell": "lstm", "hidden_size": 12, "num_layers": 1, "batch_size": 1,
        "horizon": 1000, "context": 50, "budget_seconds": 3}'

The last line of the output is JSON: the versions, and the seconds of the whole ``predict`` and of the loop
inside it.
"""

import importlib.metadata
import json
import logging
import sys
import time
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch

NAMES = {"rnn_tanh": "RNN", "gru": "GRU", "lstm": "LSTM"}
QUIET = {
    "accelerator": "cpu",
    "logger": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "enable_checkpointing": False,
}


class Calls(NamedTuple):
    """What is timed, and the forecast ``(series, time)`` as an array from what either call returns."""

    predict: Callable[[], Any]
    inner: Callable[[], Any]
    predicted: Callable[[Any], Any]
    generated: Callable[[Any], Any]


def darts_calls(
    cell: str, hidden_size: int, num_layers: int, values: Any, horizon: int, context: int
) -> Calls:
    """The calls of ``RNNModel`` after one step of training, on a list of ``TimeSeries``."""
    from darts import TimeSeries  # type: ignore[import, unused-ignore]
    from darts.models import RNNModel  # type: ignore[import, unused-ignore]

    series = [TimeSeries.from_values(one[:, None]) for one in values]
    sizes = {"hidden_dim": hidden_size, "n_rnn_layers": num_layers, "batch_size": len(series)}
    lengths = {"input_chunk_length": context, "training_length": context + 1}
    model = RNNModel(model=NAMES[cell], n_epochs=1, pl_trainer_kwargs=QUIET, **sizes, **lengths)
    model.fit(series, max_samples_per_ts=1, verbose=False)
    options = {"batch_size": len(series), "verbose": False, "show_warnings": False}
    predict = partial(model.predict, horizon, series, **options)
    return Calls(
        predict,
        captured(model.model, "_get_batch_prediction", predict),
        lambda forecasts: np.stack([one.values()[:, 0] for one in forecasts]),
        lambda tensor: tensor[:, :, 0].numpy(),
    )


def neuralforecast_calls(
    cell: str, hidden_size: int, num_layers: int, values: Any, horizon: int, context: int
) -> Calls:
    """The calls of ``RNN``, ``GRU`` or ``LSTM`` with ``recurrent=True`` after one step of training."""
    import pandas as pd  # type: ignore[import, unused-ignore]
    from neuralforecast import NeuralForecast, models  # type: ignore[import, unused-ignore]

    batch_size, num_steps = values.shape
    frame = pd.DataFrame(
        {
            "unique_id": np.repeat(np.arange(batch_size), num_steps),
            "ds": np.tile(np.arange(num_steps), batch_size),
            "y": values.ravel(),
        }
    )
    sizes = {"encoder_hidden_size": hidden_size, "encoder_n_layers": num_layers, "batch_size": batch_size}
    # A recurrent model is given one step more than its input_size.
    options = {"recurrent": True, "input_size": context - 1, "scaler_type": "identity", "max_steps": 1}
    model = getattr(models, NAMES[cell])(h=horizon, **sizes, **options, **QUIET)
    forecaster = NeuralForecast([model], freq=1)
    forecaster.fit(frame)
    return Calls(
        forecaster.predict,
        captured(forecaster.models[0], "_predict_step_recurrent_batch", forecaster.predict),
        lambda forecasts: forecasts.iloc[:, -1].to_numpy().reshape(batch_size, horizon),
        lambda tensor: tensor[:, :, 0].numpy(),
    )


PEERS = {"darts": darts_calls, "neuralforecast": neuralforecast_calls}


def captured(module: torch.nn.Module, name: str, call: Callable[[], object]) -> Callable[[], Any]:
    """The method of a module with the arguments that ``call`` gives it, once."""
    method, given = getattr(module, name), []

    def record(*args: Any, **kwargs: Any) -> Any:
        given.append(partial(method, *args, **kwargs))
        return method(*args, **kwargs)

    setattr(module, name, record)
    call()
    delattr(module, name)
    if len(given) != 1:
        raise RuntimeError(f"{name} was called {len(given)} times.")

    def evaluated() -> Any:
        with torch.inference_mode():
            return given[0]()

    module.eval()
    return evaluated


def least_seconds(calls: Calls, budget_seconds: float) -> tuple[float, float]:
    """The least CPU time of ``predict`` and of its inner loop, in alternating rounds, three at least."""
    best = [float("inf")] * 2
    begin, rounds = time.process_time(), 0
    while rounds < 3 or time.process_time() - begin < budget_seconds:
        for index, call in enumerate(calls[:2]):
            start = time.process_time()
            call()
            best[index] = min(best[index], time.process_time() - start)
        rounds += 1
    return best[0], best[1]


def main() -> None:
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    peer, settings = sys.argv[1], json.loads(sys.argv[2])
    horizon, context, budget_seconds = (
        settings.pop(name) for name in ("horizon", "context", "budget_seconds")
    )
    values = np.random.default_rng(0).standard_normal((settings.pop("batch_size"), context + 10), np.float32)
    calls = PEERS[peer](values=values, horizon=horizon, context=context, **settings)
    # The warm-up, and the proof that the inner loop is all of the generation.
    predicted, generated = calls.predicted(calls.predict()), calls.generated(calls.inner())
    np.testing.assert_allclose(generated, predicted, rtol=1e-4, atol=1e-5)
    seconds = least_seconds(calls, budget_seconds)
    versions = {name: importlib.metadata.version(name) for name in (peer, "pytorch-lightning", "torch")}
    print(json.dumps({"versions": versions, "seconds": seconds}))


if __name__ == "__main__":
    main()

"""One of several forecasters by validation, such as a reservoir, variable projection and Adam."""

from collections.abc import Callable, Mapping
from typing import Any

import lightning.pytorch as L

from rnn_lightning.errors import InputError
from rnn_lightning.forecaster import Forecaster
from rnn_lightning.solver.forecaster import VariableProjectionForecaster
from rnn_lightning.solver.free_run_score import FreeRunScore, Score


def usual_forecasters() -> dict[str, Forecaster]:
    """Return what ``auto`` tries, but Adam: a reservoir, and variable projection of two sizes."""
    return {
        "reservoir of 300 units": VariableProjectionForecaster(solver="reservoir", hidden_size=300),
        "variable projection of 64 units": VariableProjectionForecaster(hidden_size=64),
        "variable projection of 128 units": VariableProjectionForecaster(hidden_size=128),
    }


def fit_best(
    forecasters: Mapping[str, Forecaster],
    make_data: Callable[[], Any],
    make_trainer: Callable[[Forecaster], L.Trainer],
) -> tuple[str, Forecaster, dict[str, Score]]:
    """Fit each forecaster, and return the name of the best by its validation free run, it, and all scores.

    Those of a solver are scored before they are refitted on the validation split.

    Args:
        forecasters: the forecasters to fit, by name.
        make_data: makes the data module of a fit, which has validation data.
        make_trainer: makes the trainer of a forecaster.
    """
    scores: dict[str, Score] = {}
    for name, forecaster in forecasters.items():
        data = make_data()
        if not data.val_fraction > 0:
            raise InputError("`val_fraction` 0 leaves nothing to choose by: raise it.")
        make_trainer(forecaster).fit(forecaster, data)
        score = FreeRunScore(data)(forecaster.network)
        if isinstance(forecaster, VariableProjectionForecaster) and forecaster.search.validated is not None:
            score = forecaster.search.validated
        scores[name] = score
    best = min(scores, key=scores.__getitem__)
    return best, forecasters[best], scores

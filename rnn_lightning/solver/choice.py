"""``auto``: fit a reservoir, variable projection of two sizes and Adam, and take the best by validation."""

import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, cast

import lightning.pytorch as L
import torch

from rnn_lightning.errors import InputError
from rnn_lightning.forecaster import Forecaster
from rnn_lightning.solver.final_fit import FinalFit
from rnn_lightning.solver.forecaster import VariableProjectionForecaster
from rnn_lightning.solver.free_run_score import FreeRunScore, Score

RESERVOIR_SIZE = 300

LEARNING_RATE, ADAM_STEPS = 0.005, 1500
"""Of Adam in ``auto``, which has at most so many steps."""

MARGIN = 0.1
"""Adam is kept unless the error of another one is lower by this: short noisy splits rank by luck."""


HOPELESS = math.log(3)
"""A fit ends after half of its epochs if its error is still three times the lowest before it."""


class StopHopeless(L.Callback):
    """End a fit of ``auto`` that is far behind when half of its epochs are over.

    Args:
        lowest: the lowest error of the fits before it, a logarithm.
        score: scores a network by its free run.
    """

    def __init__(self, lowest: float, score: FreeRunScore) -> None:
        self.lowest, self.score = lowest, score

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if 2 * (trainer.current_epoch + 1) < (trainer.max_epochs or 0):
            return
        if isinstance(pl_module, VariableProjectionForecaster):
            present = pl_module.search.validated
        else:
            present = self.score(cast(Any, pl_module.network))
        if present is not None and present.error > self.lowest + HOPELESS:
            trainer.should_stop = True


class Candidate(NamedTuple):
    """A fit that ``auto`` tries.

    Attributes:
        name: name of the method and its size.
        make: makes the forecaster; it is given those that were fitted before, by name.
        max_epochs: argument of its Trainer.
        gradient_clip_val: likewise.
    """

    name: str
    make: Callable[[Mapping[str, Forecaster]], Forecaster]
    max_epochs: int
    gradient_clip_val: float | None = None


def candidates(given: VariableProjectionForecaster, data: Any, max_epochs: int) -> list[Candidate]:
    """Return what ``auto`` tries: networks of the given size, one of twice the size, and a reservoir.

    The larger one takes the input noise that was best for the smaller one and a third of its epochs, so that
    it costs about as much.
    """
    size, (noise, _) = given.architecture[1], given.given

    def solved(**arguments: Any) -> VariableProjectionForecaster:
        names = inspect.signature(VariableProjectionForecaster).parameters
        kept = {name: given.hparams[name] for name in names}
        return VariableProjectionForecaster(**{**kept, "solver": "variable_projection", **arguments})

    def larger(fitted: Mapping[str, Forecaster]) -> Forecaster:
        smaller: Any = fitted[f"variable projection of {size} units"]
        return solved(hidden_size=2 * size, input_noise=smaller.search.noise)

    def adam(_: Mapping[str, Forecaster]) -> Forecaster:
        kept = {name: given.hparams[name] for name in ("cell", "num_layers", "transforms")}
        kept |= {"hidden_size": size, "input_noise": 0.0 if noise == "auto" else noise}
        return Forecaster(**kept, learning_rate=LEARNING_RATE)

    num_batches = data.num_batches_per_epoch or math.ceil(len(data.training_starts()) / data.batch_size)
    of_larger = max(max_epochs // 3, min(max_epochs, 6))
    of_adam = min(max_epochs, math.ceil(ADAM_STEPS / num_batches))
    reservoir: dict[str, Any] = {"solver": "reservoir", "hidden_size": RESERVOIR_SIZE, "num_layers": 1}
    found = [
        Candidate(f"reservoir of {RESERVOIR_SIZE} units", lambda _: solved(**reservoir), max_epochs),
        Candidate(f"variable projection of {size} units", lambda _: solved(), max_epochs),
        Candidate(f"variable projection of {2 * size} units", larger, of_larger),
        Candidate(f"Adam with {size} units", adam, of_adam, 1.0),
    ]
    return found if given.architecture[0] == "rnn_tanh" else found[1:]


def fit_best(
    given: VariableProjectionForecaster,
    data: Any,
    max_epochs: int,
    make_trainer: Callable[[str, Forecaster, dict[str, Any]], L.Trainer],
) -> tuple[str, Forecaster, dict[str, Score]]:
    """Fit each of ``candidates``; return the name of the best by its validation free run, it, and all scores.

    Networks are scored before they are trained on the validation split as well.

    Args:
        given: the forecaster with ``solver="auto"``, whose arguments the candidates take.
        data: the data module, which has validation data.
        max_epochs: epochs of variable projection.
        make_trainer: makes the Trainer of a fit from its name, the forecaster, and ``max_epochs`` and
            ``gradient_clip_val``.

    Raises:
        InputError: if there are no validation data.
    """
    if not data.val_fraction > 0:
        raise InputError("`val_fraction` 0 leaves nothing to choose by: raise it.")
    data.setup("fit")
    fitted: dict[str, Forecaster] = {}
    scores: dict[str, Score] = {}
    score = FreeRunScore(data)
    for candidate in candidates(given, data, max_epochs):
        forecaster = candidate.make(fitted)
        settings = {"max_epochs": candidate.max_epochs, "gradient_clip_val": candidate.gradient_clip_val}
        trainer = make_trainer(candidate.name, forecaster, settings)
        lowest = min((score.error for score in scores.values()), default=math.inf)
        trainer.callbacks.append(StopHopeless(lowest, score))  # type: ignore[attr-defined]
        trainer.fit(forecaster, datamodule=data)
        fitted[candidate.name], scores[candidate.name] = forecaster, validated_score(forecaster, trainer)
    best = choose(scores)
    return best, fitted[best], scores


def choose(scores: Mapping[str, Score]) -> str:
    """Return the name of the lowest score, or of the last one, Adam's, unless that is clearly higher."""
    best, last = min(scores, key=scores.__getitem__), list(scores)[-1]
    is_close = scores[last].error <= scores[best].error + MARGIN
    return last if scores[last].leaves == scores[best].leaves and is_close else best


def validated_score(forecaster: Forecaster, trainer: L.Trainer) -> Score:
    """Return the score of the best network of a fit that was not trained on the validation split."""
    if isinstance(forecaster, VariableProjectionForecaster):
        assert forecaster.search.validated is not None
        return forecaster.search.validated
    data: Any = trainer.datamodule  # type: ignore[attr-defined]
    final = next((each for each in trainer.callbacks if isinstance(each, FinalFit)), None)  # type: ignore[attr-defined]
    path = getattr(trainer.checkpoint_callback, "best_model_path", "")
    network, present = forecaster.network, {**forecaster.network.state_dict()}
    present = {name: value.clone() for name, value in present.items()}
    if final is not None and final.validated:
        network.load_state_dict(final.validated)
    elif path:
        saved = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
        kept = {name: saved[f"network.{name}"] for name in present}
        network.load_state_dict(kept)
        present = kept  # what the checkpoint has is the result
    score = FreeRunScore(data)(network)
    network.load_state_dict(present)
    return score


def described(best: str, scores: Mapping[str, Score]) -> str:
    """Return which one was chosen and why, in one line."""
    errors = ", ".join(
        f"{name} {math.exp(score.error):.2g}{' and leaves the range of the data' if score.leaves else ''}"
        for name, score in scores.items()
    )
    return f"Solver: {best}, by the error of the validation free run in standard deviations ({errors})."

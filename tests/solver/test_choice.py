"""``auto``: the best of a reservoir, variable projection of two sizes and Adam, by validation."""

import math
from typing import Any

import lightning.pytorch as L
import pytest
import torch

from rnn_lightning import ArraySeries, Forecaster, TableDataModule
from rnn_lightning.dynamics.systems import MackeyGlassSeries
from rnn_lightning.errors import InputError
from rnn_lightning.solver import choice
from rnn_lightning.solver.choice import StopHopeless, choose, described, fit_best, validated_score
from rnn_lightning.solver.final_fit import FinalFit
from rnn_lightning.solver.forecaster import VariableProjectionForecaster
from rnn_lightning.solver.free_run_score import FreeRunScore, Score

QUIET: dict[str, Any] = {
    "accelerator": "cpu",
    "logger": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "enable_checkpointing": False,
}


def make_data(val_fraction: float = 0.2, **known: Any) -> TableDataModule:
    values, known = MackeyGlassSeries(500).clean(), {"test_fraction": 0.0, **known}
    sizes: dict[str, Any] = {"context_length": 20, "scored_length": 40, "horizon": 30}
    sizes["num_batches_per_epoch"] = 2
    return TableDataModule(ArraySeries(values), **sizes, val_fraction=val_fraction, **known)


def test_the_forecaster_that_generates_best_on_validation_data_is_chosen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(choice, "RESERVOIR_SIZE", 20)
    torch.manual_seed(0)
    numbers: dict[str, Any] = {"input_noise": "auto", "ridge": 1e-8, "iterations": 3}
    given = VariableProjectionForecaster(solver="auto", hidden_size=8, **numbers)
    trainers: dict[str, L.Trainer] = {}

    def make_trainer(name: str, _: Forecaster, settings: dict[str, Any]) -> L.Trainer:
        trainers[name] = L.Trainer(**settings, **QUIET)
        return trainers[name]

    best, forecaster, scores = fit_best(given, make_data(), 8, make_trainer)
    assert [*scores] == [*trainers]
    assert [name.split()[0] for name in scores] == ["reservoir", "variable", "variable", "Adam"]
    assert "of 8 units" in [*scores][1]
    assert "of 16 units" in [*scores][2]
    assert best == min(scores, key=scores.__getitem__) != [*scores][3]
    assert trainers[best].lightning_module is forecaster
    assert [trainer.max_epochs for trainer in trainers.values()][1:] == [8, 6, 8]
    assert [trainer.gradient_clip_val for trainer in trainers.values()] == [None] * 3 + [1.0]
    modules: list[Any] = [trainers[name].lightning_module for name in [*scores][1:]]
    small, large, adam = modules
    assert large.given[0] == small.search.noise
    assert adam.architecture[:3] == ("rnn_tanh", 8, 1)
    assert described(best, scores).startswith(f"Solver: {best}, by the error")


def test_adam_is_kept_unless_another_is_clearly_better() -> None:
    solver, adam = Score(False, -1.0, -9.0), Score(False, -0.95, -9.0)
    assert choose({"solver": solver, "adam": adam}) == "adam"
    assert choose({"solver": solver, "adam": adam._replace(error=-0.8)}) == "solver"
    assert choose({"solver": solver._replace(leaves=True), "adam": adam._replace(error=2.0)}) == "adam"
    assert choose({"solver": solver, "adam": adam._replace(leaves=True)}) == "solver"


@pytest.mark.parametrize(("lowest", "num_epochs"), [(-math.inf, 3), (math.inf, 6)])
@pytest.mark.parametrize("kind", [Forecaster, VariableProjectionForecaster])
def test_a_fit_far_behind_ends_after_half_of_its_epochs(
    kind: type[Forecaster], lowest: float, num_epochs: int
) -> None:
    data = make_data()
    data.setup("fit")
    trainer = L.Trainer(max_epochs=6, callbacks=[StopHopeless(lowest, FreeRunScore(data))], **QUIET)
    known: dict[str, Any] = {"cell": "rnn_tanh", "hidden_size": 4, "transforms": ["standardize"]}
    if kind is VariableProjectionForecaster:
        known |= {"input_noise": 0.0, "ridge": 1e-8, "iterations": 2}
    trainer.fit(kind(**known), datamodule=data)
    assert trainer.current_epoch == num_epochs


def test_adam_is_scored_before_its_final_fit() -> None:
    torch.manual_seed(0)
    forecaster = Forecaster(cell="rnn_tanh", hidden_size=4, transforms=["standardize"])
    trainer = L.Trainer(max_epochs=3, **QUIET)
    data = make_data(final_fit_on_all=True)
    trainer.fit(forecaster, datamodule=data)
    (final,) = [each for each in trainer.callbacks if isinstance(each, FinalFit)]  # type: ignore[attr-defined]
    weights = {name: value.clone() for name, value in forecaster.network.state_dict().items()}
    found = validated_score(forecaster, trainer)
    assert all(torch.equal(value, weights[name]) for name, value in forecaster.network.state_dict().items())
    assert found != FreeRunScore(data)(forecaster.network)
    forecaster.network.load_state_dict(final.validated)
    assert found == FreeRunScore(data)(forecaster.network)


def test_nothing_is_chosen_without_validation_data() -> None:
    with pytest.raises(InputError, match="`val_fraction` 0"):
        fit_best(VariableProjectionForecaster(solver="auto"), make_data(0.0), 2, lambda *_: L.Trainer())


def test_a_fit_of_auto_itself_is_refused() -> None:
    with pytest.raises(InputError, match="`solver` auto is several fits"):
        L.Trainer(max_epochs=2, **QUIET).fit(VariableProjectionForecaster(solver="auto"), make_data())

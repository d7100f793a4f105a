"""The plan of a fit: what each epoch does."""

import itertools

import pytest

from rnn_lightning.errors import InputError
from rnn_lightning.solver.plan import NOISES, RIDGES, projection_plan, reservoir_plan


@pytest.mark.parametrize("validates", [True, False])
@pytest.mark.parametrize(("noise", "ridge"), [*itertools.product(["auto", 1e-3], ["auto", 1e-9])])
def test_every_epoch_has_its_stage(noise: float, ridge: float, validates: bool) -> None:
    for num_epochs in range(8, 60):
        plan = projection_plan(num_epochs, 20, noise, ridge, validates)
        assert len(plan) == num_epochs
        assert plan[0][0].start == "initial"
        assert plan[-1][0].is_refit == validates


def test_trials_come_before_the_best_goes_on() -> None:
    stages = [stage for (stage,) in projection_plan(30, 20, "auto", "auto", True)]
    trials = [stage for stage in stages if stage.start == "initial"]
    assert [stage.noise for stage in trials] == [*NOISES, None, None]
    assert [stage.ridge for stage in trials] == [*[RIDGES[0]] * len(NOISES), *RIDGES[1:]]
    assert sum(stage.fall < 1 for stage in stages) == 2
    assert sum(stage.is_refit for stage in stages) == 2


def test_given_numbers_are_not_tried_and_do_not_fall() -> None:
    stages = [stage for (stage,) in projection_plan(12, 20, 1e-3, 1e-9, True)]
    assert [stage.start for stage in stages].count("initial") == 1
    assert all(stage.fall == 1 for stage in stages)


def test_too_few_epochs_are_refused() -> None:
    with pytest.raises(InputError, match="`max_epochs` 5 is too low to try 6 values"):
        projection_plan(5, 20, "auto", "auto", True)
    assert len(projection_plan(1, 20, 0.0, 1e-9, True)) == 1


def test_a_reservoir_has_one_epoch_without_iterations() -> None:
    (stages,) = reservoir_plan("auto", 1e-9)
    assert all(stage.iterations == 0 and stage.start == "initial" for stage in stages)
    assert len({stage.noise for stage in stages}) == len(stages) > 3

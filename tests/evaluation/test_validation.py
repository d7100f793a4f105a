"""What is said of a validation, and how far ahead it could look."""

import numpy as np
import pytest

from rnn_lightning import BundledForecaster, TableDataModule
from rnn_lightning.evaluation.validation import sentences, validate


@pytest.mark.parametrize(
    ("context_length", "val_fraction", "reach"), [(50, 0.25, 40), (500, 0.25, 40), (50, 0.05, 20)]
)
def test_a_validation_looks_as_far_as_the_split_allows(
    context_length: int, val_fraction: float, reach: int
) -> None:
    values = np.sin(np.arange(400) / 5)
    sizes = {"horizon": 40, "val_fraction": val_fraction, "test_fraction": 0.1}
    data = TableDataModule(values, context_length, **sizes)  # type: ignore[arg-type]
    data.setup("validate")
    forecaster = BundledForecaster()
    forecaster.take_sizes(data)
    said, _ = validate(forecaster, data, measures=False)
    assert said[0].startswith("Validation, ")
    assert f" of {reach} steps: " in said[0]
    assert (len(said) == 2) == (reach < 40)


def test_a_short_validation_is_told_with_its_remedy() -> None:
    found = {"verdict": "better", "forecasts": 1, "horizon": 3}
    said = ["Validation, 1 forecast (a sample) of 3 steps: better."]
    assert sentences(found, True, 3) == said
    said += ["Validation could look 3 steps ahead, fewer than `horizon` 5: raise it."]
    assert sentences(found, True, 5, ": raise it") == said

"""Input noise of a fit by Adam: on the inputs alone, and the same in a repeated fit."""

from typing import Any

import lightning.pytorch as L
import pytest
import torch

from rnn_lightning import Forecaster, SequenceDataModule, SineSeries, forecaster
from rnn_lightning.errors import InputError
from rnn_lightning.losses import TrainingWindows, with_input_noise


def test_noise_is_on_the_values_of_inputs_alone() -> None:
    inputs = torch.zeros(50, 40, 3)
    windows = TrainingWindows(inputs, 20, inputs[:, 20:, :2], True, {})
    noisy, again = (with_input_noise(windows, 2, 0.5, 7) for _ in range(2))
    other = with_input_noise(windows, 2, 0.5, 8)
    assert torch.equal(noisy.inputs, again.inputs)
    assert not torch.allclose(noisy.inputs, other.inputs)
    assert noisy.inputs[..., :2].std().item() == pytest.approx(0.5, rel=0.05)
    assert bool((noisy.inputs[..., 2] == 0).all())
    assert noisy.target is windows.target


def fitted(input_noise: float, seed: int = 0, **options: Any) -> Forecaster:
    torch.manual_seed(seed)
    forecaster = Forecaster(cell="rnn_tanh", hidden_size=4, input_noise=input_noise)
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    trainer = L.Trainer(max_epochs=1, accelerator="cpu", logger=False, **quiet, **options)  # type: ignore[arg-type]
    trainer.fit(forecaster, SequenceDataModule(SineSeries(), num_batches_per_epoch=5))
    return forecaster


def test_adam_trains_with_the_same_noise_again_and_other_weights_without() -> None:
    weights = [fitted(noise).network.readout.weight for noise in (0.3, 0.3, 0.0)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.allclose(weights[0], weights[2])


def test_every_batch_has_noise_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also those whose gradients are accumulated; another seed of the fit gives other noise."""
    seen: list[int] = []

    def spy(windows: TrainingWindows, num_features: int, deviation: float, seed: int) -> TrainingWindows:
        seen.append(seed)
        return with_input_noise(windows, num_features, deviation, seed)

    monkeypatch.setattr(forecaster, "with_input_noise", spy)
    fitted(0.3, accumulate_grad_batches=2)
    assert len(set(seen)) == 5
    before = set(seen)
    seen.clear()
    fitted(0.3, seed=100)
    assert before.isdisjoint(seen)


def test_negative_noise_is_refused() -> None:
    with pytest.raises(InputError, match="`input_noise` must not be negative"):
        Forecaster(input_noise=-0.1)

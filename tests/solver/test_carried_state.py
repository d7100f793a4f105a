"""Windows that continue each other: the same as one long pass that is cut at the same places."""

import itertools
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from processes import in_group
from torch import Tensor

from rnn_lightning import Forecaster, TableDataModule, VariableProjectionForecaster
from rnn_lightning.errors import InputError
from rnn_lightning.losses import TrainingWindows
from rnn_lightning.recurrent import recur
from rnn_lightning.solver.carried_state import ContinuedLoader

QUIET: dict[str, Any] = {
    "accelerator": "cpu",
    "logger": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}
CONTEXT, SCORED = 5, 8


def make_data(num_steps: int = 200, batch_size: int = 3, **known: Any) -> TableDataModule:
    values = np.random.default_rng(0).normal(size=(num_steps, 1))
    known = {"carry_state": True, "val_fraction": 0.0, "test_fraction": 0.0, "seed": 0} | known
    sizes: dict[str, Any] = {"batch_size": batch_size, "num_batches_per_epoch": None}
    return TableDataModule(known.pop("values", values), CONTEXT, SCORED, **sizes, **known)


class Watch(Forecaster):
    """Keeps the windows, the predictions and the gradients of the steps of a fit without learning."""

    def __init__(self, **known: Any) -> None:
        super().__init__(hidden_size=4, transforms=["standardize"], learning_rate=1e-12, **known)
        self.seen: list[tuple[TrainingWindows, Tensor]] = []

    def loss(self, windows: TrainingWindows) -> Tensor:
        loss = super().loss(windows)
        self.seen.append((windows, loss.detach()))
        return loss


def fitted(forecaster: Forecaster, data: Any, num_epochs: int = 1, **known: Any) -> L.Trainer:
    known = {"enable_checkpointing": False} | known
    trainer = L.Trainer(max_epochs=num_epochs, **QUIET, **known)
    trainer.fit(forecaster, data, ckpt_path=known.pop("ckpt_path", None))
    return trainer


@pytest.mark.parametrize("cell", ["rnn_tanh", "gru", "lstm"])
def test_the_losses_are_those_of_one_long_pass(cell: Any) -> None:
    torch.manual_seed(0)
    forecaster, data = Watch(cell=cell), make_data(batch_size=3)
    fitted(forecaster, data)
    network, values = forecaster.network, data.data.values[None].float()
    transformed = network.transforms.start(values, {})[0]
    num_windows = (200 - CONTEXT) // SCORED
    rows = np.array_split(np.arange(num_windows), 3)
    for step, (_, loss) in enumerate(forecaster.seen):
        squares = []
        for row in rows:
            if step < len(row):
                start, end = row[0] * SCORED, row[step] * SCORED + CONTEXT + SCORED
                with torch.no_grad():
                    passed, _ = recur(
                        network.recurrent, transformed[:, start : end - 1], None, network.readout
                    )
                errors = passed[0, -SCORED:] - transformed[0, end - SCORED : end]
                squares.append(errors.square())
        assert loss.item() == pytest.approx(torch.stack(squares).mean().item(), rel=1e-5)
    assert len(forecaster.seen) == 8


def test_the_free_run_starts_from_the_carried_state() -> None:
    torch.manual_seed(0)
    forecaster, data = Watch(free_run_weight=1.0), make_data(batch_size=1)
    fitted(forecaster, data)
    network, values = forecaster.network, data.data.values[None].float()
    transformed = network.transforms.start(values, {})[0]
    for step, (_, loss) in enumerate(forecaster.seen):
        origin = step * SCORED + CONTEXT
        with torch.no_grad():
            generated = forecaster.forecast(values[:, :origin], SCORED)
        free_run = network.transforms(generated, network.transforms.start(values, {})[1])[0]
        errors = free_run - transformed[:, origin : origin + SCORED]
        assert loss.item() == pytest.approx(errors.square().mean().item(), rel=1e-4)


def test_no_gradient_crosses_the_cut() -> None:
    torch.manual_seed(0)
    forecaster, data = Watch(), make_data(batch_size=2)
    fitted(forecaster, data)
    windows, _ = forecaster.seen[1]
    assert windows.continuation.continues.tolist() == [True, True]
    assert all(not part.requires_grad for part in data.carried.parts)


def test_a_row_starts_anew_at_the_next_series() -> None:
    values = np.random.default_rng(0).normal(size=(3, 29, 1))  # three windows of each series
    forecaster, data = Watch(), make_data(values=values, batch_size=1)
    torch.manual_seed(0)
    fitted(forecaster, data)
    continued = [windows.continuation.continues.item() for windows, _ in forecaster.seen]
    assert continued == [False, True, True] * 3
    alone = Watch()
    alone.load_state_dict(forecaster.state_dict())
    single = make_data(values=values[1:2], batch_size=1)
    fitted(alone, single)
    ours = [loss.item() for _, loss in forecaster.seen[3:6]]
    assert [loss.item() for _, loss in alone.seen] == pytest.approx(ours, rel=1e-4)


@pytest.mark.parametrize(("num_items", "batch_size", "world_size"), [(24, 3, 1), (25, 4, 2), (7, 16, 2)])
def test_every_window_is_in_one_row_of_one_device(num_items: int, batch_size: int, world_size: int) -> None:
    seen: list[int] = []
    for rank in range(world_size):
        settings: dict[str, Any] = {"num_batches": None, "seed": 0}
        loader = ContinuedLoader(lambda items: items, num_items, batch_size, (rank, world_size), **settings)
        batches = [batch.tolist() for batch in loader]
        assert len(batches[0]) == min(batch_size, num_items // world_size)
        for before, after in itertools.pairwise(batches):
            assert after == [item + 1 for item in before[: len(after)]]
        seen += [item for batch in batches for item in batch]
    assert sorted(seen) == list(range(num_items // world_size * world_size))


def test_a_resumed_fit_carries_on_to_the_bit(tmp_path: Path) -> None:
    results = []
    for resumed in (False, True):
        torch.manual_seed(0)
        keep = ModelCheckpoint(tmp_path / str(resumed), "{step}", save_top_k=-1, every_n_train_steps=1)
        forecaster = Forecaster(cell="gru", hidden_size=4, transforms=["standardize"])
        trainer = L.Trainer(max_epochs=2, callbacks=[keep], **QUIET)
        path = tmp_path / "False" / "step=5.ckpt" if resumed else None
        trainer.fit(forecaster, make_data(), ckpt_path=path, weights_only=True)
        results.append(dict(forecaster.network.named_parameters()))
    assert all(torch.equal(value, results[1][name]) for name, value in results[0].items())


def test_gaps_are_imputed_across_the_cut() -> None:
    values = np.random.default_rng(0).normal(size=(200, 1))
    values[70:90] = np.nan
    forecaster = Watch()
    fitted(forecaster, make_data(values=values, batch_size=1))
    losses = torch.stack([loss for _, loss in forecaster.seen])
    assert bool(losses.isfinite().all())
    assert not bool(forecaster.seen[9][0].complete)


def test_what_cannot_continue_is_refused() -> None:
    with pytest.raises(InputError, match="`carry_state` needs units"):
        fitted(Forecaster(hidden_size=4), make_data())
    with pytest.raises(InputError, match="`carry_state` is for Adam"):
        fitted(VariableProjectionForecaster(hidden_size=4), make_data())
    with pytest.raises(InputError, match="are mutually exclusive"):
        make_data(final_fit_on_all=True)


def resumed_equals_whole(folder: str, **devices: Any) -> tuple[bool, list[Any]]:
    """Fit whole and resumed within the pass; return whether the weights are equal, and the states kept."""
    results: list[dict[str, Tensor]] = []
    for resumed in (False, True):
        torch.manual_seed(0)
        keep = ModelCheckpoint(Path(folder, str(resumed)), "{step}", save_top_k=-1, every_n_train_steps=1)
        forecaster = Forecaster(cell="lstm", hidden_size=4, transforms=["standardize"])
        trainer = L.Trainer(max_epochs=1, callbacks=[keep], **QUIET, **devices)
        path = Path(folder, "False", "step=3.ckpt") if resumed else None
        trainer.fit(forecaster, make_data(), ckpt_path=path, weights_only=True)
        results.append({name: value.detach().clone() for name, value in forecaster.named_parameters()})
    kept = torch.load(Path(folder, "False", "step=3.ckpt"), weights_only=True)["TableDataModule"]["carried"]
    return all(torch.equal(value, results[1][name]) for name, value in results[0].items()), kept


def carried_by_two(folder: str) -> tuple[bool, list[Any], bool]:
    is_equal, kept = resumed_equals_whole(folder, strategy="ddp", devices=2)
    return is_equal, [[*part.shape] for part in kept], torch.equal(kept[0][0], kept[0][1])


def test_two_devices_carry_states_of_their_own_through_a_checkpoint(tmp_path: Path) -> None:
    shapes = [[2, 1, 3, 4]] * 2  # (device, layer, row, hidden)
    assert in_group(2, carried_by_two, str(tmp_path)) == [(True, shapes, False)] * 2

"""The loss with a solved readout: gradients, gaps, chunks and the noise of windows."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from rnn_lightning import ArraySeries, RecurrentNetwork, SequenceDataModule
from rnn_lightning.data.windows import Segments
from rnn_lightning.solver import window_chunks
from rnn_lightning.solver.least_squares import Chunk, evaluate, hidden_states
from rnn_lightning.solver.window_chunks import WindowChunks, hold_last, scored_steps, side_by_side


class Given:
    """Chunks from a list."""

    def __init__(self, *chunks: Chunk, complete: bool = True) -> None:
        self.chunks, self.complete = chunks, complete

    def __len__(self) -> int:
        return len(self.chunks)

    def __iter__(self) -> Iterator[Chunk]:
        return iter(self.chunks)


def make_network(cell: str = "rnn_tanh", num_features: int = 2, **known: Any) -> RecurrentNetwork:
    torch.manual_seed(0)
    network = RecurrentNetwork(num_features, cell, 4, transforms=["standardize"], **known)  # type: ignore[arg-type]
    return network.double()


def make_chunk(num_windows: int = 3, seed: int = 0) -> Chunk:
    values = torch.randn(num_windows, 30, 2, generator=torch.Generator().manual_seed(seed)).double()
    return Chunk(values, values[:, 10:].clone(), None)


@pytest.mark.parametrize("cell", ["rnn_tanh", "rnn_relu", "gru", "lstm"])
@pytest.mark.parametrize("has_gaps", [False, True])
def test_the_gradient_is_that_of_the_loss_with_the_readout_solved_anew(cell: str, has_gaps: bool) -> None:
    network, chunk = make_network(cell, num_layers=2), make_chunk()
    if has_gaps:
        chunk.target[0, 3:7, 1] = torch.nan
        chunk = chunk._replace(start_step=torch.tensor([0, 4, 0]))
    chunks = Given(chunk, complete=not has_gaps)
    _, gradient, _ = evaluate(network, chunks, 1e-2)
    place = 0
    for weights in network.recurrent.parameters():
        flat = weights.data.view(-1)
        for index in {0, len(flat) // 2, len(flat) - 1}:
            was, losses = float(flat[index]), []
            for step in (1e-5, -1e-5):
                flat[index] = was + step
                losses.append(evaluate(network, chunks, 1e-2, wants_gradient=False).loss)
            flat[index] = was
            assert (losses[0] - losses[1]) / 2e-5 == pytest.approx(gradient[place + index].item(), abs=1e-8)
        place += len(flat)


def test_the_readout_is_the_ridge_regression_of_the_known_targets_of_each_feature() -> None:
    network, chunk = make_network(), make_chunk()
    chunk.target[0, :15, 0] = torch.nan
    chunk.target[2, 5, 1] = torch.nan
    found = evaluate(network, Given(chunk, complete=False), 1e-3)
    hidden = hidden_states(network, chunk).detach().flatten(0, 1)
    rows = torch.cat([hidden, torch.ones(len(hidden), 1)], 1).double().numpy()
    losses, errors = [], []
    for feature in range(2):
        target = chunk.target[..., feature].flatten().numpy()
        known = ~np.isnan(target)
        one, wanted = rows[known], target[known]
        weights = np.linalg.solve(one.T @ one / len(one) + 1e-3 * np.eye(5), one.T @ wanted / len(one))
        readout = network.readout
        solved = torch.cat([readout.weight[feature], readout.bias[feature : feature + 1]]).detach().numpy()
        assert np.allclose(solved, weights, atol=1e-10)
        errors.append(np.square(one @ weights - wanted).mean())
        losses.append(errors[-1] + 1e-3 * np.square(weights).sum())
    assert found.error == pytest.approx(np.mean(errors), rel=1e-9)
    assert found.loss == pytest.approx(np.mean(losses), rel=1e-9)


def test_chunks_give_what_all_windows_at_once_give() -> None:
    network, first, second = make_network(), make_chunk(3, 1), make_chunk(2, 2)
    joined = Chunk(torch.cat([first.inputs, second.inputs]), torch.cat([first.target, second.target]), None)
    whole, parts = (evaluate(network, Given(*each), 1e-6) for each in ((joined,), (first, second)))
    assert whole.loss == pytest.approx(parts.loss, rel=1e-12)
    assert torch.allclose(whole.gradient, parts.gradient, rtol=1e-9, atol=1e-12)


def make_data(values: Any = None, **known: Any) -> SequenceDataModule:
    values = np.random.default_rng(0).normal(size=(500, 2)) if values is None else values
    data = SequenceDataModule(ArraySeries(values), 10, 20, horizon=20, **known)
    data.setup("fit")
    return data


def test_windows_side_by_side_score_every_step_after_the_contexts() -> None:
    start, end = torch.tensor([0, 100, 300]), torch.tensor([85, 180, 330])
    segments = Segments(torch.arange(3), start, start, end)
    doubled, windows = side_by_side(segments, 10, 20)
    segment, first = windows.locate(torch.arange(len(windows)))
    assert (first >= doubled.start[segment]).all()
    assert (first + 30 <= doubled.end[segment]).all()
    scored = (first[:, None] + torch.arange(10, 30)).flatten().bincount(minlength=330)
    for low, high in zip(start.tolist(), end.tolist(), strict=True):
        assert (scored[low + 10 : high] >= 1).all()
        assert scored[low : low + 10].sum() == 0
    assert len(windows) == 4 + 4 + 1


def cut(
    data: SequenceDataModule, noise: float = 0.0, network: RecurrentNetwork | None = None
) -> WindowChunks:
    return WindowChunks(network or make_network(), data, data.training_segments(), noise)


def test_noise_is_on_inputs_alone_and_fixed_for_each_window(monkeypatch: pytest.MonkeyPatch) -> None:
    data = make_data()
    (clean,), (noisy,), (again,) = (list(cut(data, noise)) for noise in (0.0, 0.1, 0.1))
    assert torch.equal(noisy.inputs, again.inputs)
    assert torch.equal(noisy.target, clean.target)
    drawn = noisy.inputs - clean.inputs
    assert drawn.std().item() == pytest.approx(0.1, rel=0.05)
    assert not torch.allclose(drawn[:1], drawn[1:2])
    monkeypatch.setattr(window_chunks, "CHUNK_NUMBERS", 50 * 4 * 3)
    monkeypatch.setattr(window_chunks, "MAX_KEPT", 0)
    small = cut(data, 0.1)
    assert len(small) == len(list(small)) > 3
    assert torch.equal(torch.cat([chunk.inputs for chunk in small]), noisy.inputs)


def test_windows_are_longer_where_every_series_is() -> None:
    start, end = torch.tensor([0, 100]), torch.tensor([90, 170])
    segments = Segments(torch.arange(2), start, start, end)
    assert [scored_steps(segments, 10, scored) for scored in (10, 20, 30, 60, 100)] == [40, 40, 30, 60, 100]
    assert scored_steps(segments, 20, 30) == 30
    assert scored_steps(segments, 20, 10) == 50


def test_the_windows_of_two_devices_are_those_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    data, network = make_data(), make_network()
    whole = evaluate(network, cut(data, 0.1), 1e-6)
    parts = []
    for rank in (0, 1):
        monkeypatch.setattr(SequenceDataModule, "devices", (rank, 2))
        parts.append(cut(data, 0.1))
    inputs = torch.cat([chunk.inputs for part in parts for chunk in part])
    halves = Given(*(chunk for part in parts for chunk in part))
    assert len(inputs) == len(parts[0].windows)
    together = evaluate(network, halves, 1e-6)
    assert together.loss == pytest.approx(whole.loss, rel=1e-9)
    assert torch.allclose(together.gradient, whole.gradient, rtol=1e-9, atol=1e-14)


def test_gaps_are_imputed_and_not_scored() -> None:
    values = np.random.default_rng(0).normal(size=(500, 2))
    values[100:105] = np.nan
    values[40, 1] = np.nan
    data, network = make_data(values), make_network()
    for filler in (None, network):
        chunks = WindowChunks(network, data, data.training_segments(), filler=filler)
        (chunk,) = chunks
        assert not chunks.complete
        assert bool(chunk.inputs[:, :-1].isfinite().all())
        assert int(chunk.target.isnan().sum()) >= 11
    assert cut(make_data()).complete


def test_held_values_are_the_last_known_ones() -> None:
    nan = torch.nan
    values: Tensor = torch.tensor([[[nan, 1.0], [2.0, nan], [nan, nan], [3.0, 4.0], [nan, 5.0]]])
    expected = torch.tensor([[[0.0, 1.0], [2.0, 1.0], [2.0, 1.0], [3.0, 4.0], [3.0, 5.0]]])
    assert torch.equal(hold_last(values), expected)

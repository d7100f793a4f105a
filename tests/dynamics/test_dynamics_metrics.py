"""Metrics of generated dynamics against their definitions, written out."""

import math

import numpy as np
import pytest
import torch

from rnn_lightning.dynamics.metrics import (
    NRMSEAtLead,
    SpectrumDistance,
    StateSpaceDivergence,
    ValidTime,
    valid_times,
)


def test_a_forecast_is_valid_until_its_error_exceeds_the_threshold() -> None:
    target = torch.zeros(4, 5, 2)
    generated = torch.zeros(4, 5, 2)
    generated[0, 3] = 2.0  # norm 2.8 of a scale of 5
    generated[1, 1, 0] = 1.9  # below 0.4 * 5
    generated[2, 2, 1] = torch.nan
    scale = torch.tensor([3.0, 4.0])
    assert valid_times(generated, target, scale).tolist() == [3, 5, 2, 5]


def test_valid_time_is_a_quantile_in_lyapunov_times() -> None:
    target, generated = torch.zeros(3, 10, 1), torch.zeros(3, 10, 1)
    for row, step in enumerate((2, 4, 8)):
        generated[row, step] = 1.0
    for quantile, expected in ((0.5, 2.0), (0.0, 1.0), (1.0, 4.0)):
        metric = ValidTime(lyapunov_time=2.0, quantile=quantile)
        metric.update(generated[:1], target[:1], torch.ones(1))
        metric.update(generated[1:], target[1:], torch.ones(2, 1))
        assert metric.compute() == expected


def test_the_error_at_a_lead_is_that_of_one_step_in_standard_deviations() -> None:
    metric, generated = NRMSEAtLead(lead=2), torch.zeros(2, 3, 1)
    target = torch.tensor([[9.0, 3.0, 9.0], [9.0, 4.0, 9.0]])[..., None]
    metric.update(generated[:1], target[:1], torch.tensor([2.0]))
    metric.update(generated[1:], target[1:], torch.tensor([2.0]))
    metric.update(generated[1:], target[1:] * torch.nan, torch.tensor([2.0]))
    assert metric.compute().item() == pytest.approx(math.sqrt((9 + 16) / 2) / 2)


def test_state_space_divergence_is_that_of_all_bins_written_out() -> None:
    random = np.random.default_rng(0)
    truth, generated = random.normal(size=(500, 2)), random.normal(size=(400, 2)) + 0.5
    edges = [np.linspace(low, high, 11) for low, high in zip(truth.min(0), truth.max(0), strict=True)]
    shares = []
    for path in (truth, generated):
        counts = np.histogramdd(path, edges)[0].ravel() + 1e-5
        shares.append(counts / counts.sum())
    expected = (shares[0] * np.log(shares[0] / shares[1])).sum()
    found = StateSpaceDivergence(num_bins=10)(torch.tensor(generated), torch.tensor(truth))
    assert found.item() == pytest.approx(expected, rel=1e-9)
    assert StateSpaceDivergence()(torch.tensor(truth), torch.tensor(truth)).item() == pytest.approx(
        0, abs=1e-12
    )
    assert StateSpaceDivergence()(torch.full((5, 2), torch.nan), torch.tensor(truth)).item() == math.inf


def test_six_features_need_no_memory_for_their_empty_bins() -> None:
    random = np.random.default_rng(0)
    truth = torch.tensor(random.normal(size=(1000, 6)))
    near, far = truth + 0.01, truth * 0.2
    assert StateSpaceDivergence()(near, truth) < StateSpaceDivergence()(far, truth)


def test_spectrum_distance_is_that_of_smoothed_spectra_written_out() -> None:
    time = np.arange(600)
    random = np.random.default_rng(0)
    truth, generated = np.sin(0.3 * time), np.sin(0.35 * time) + 0.1 * random.normal(size=600)
    spectra = []
    for path in (truth, generated):
        power = np.abs(np.fft.rfft((path - path.mean()) / path.std())) ** 2
        weights = np.exp(-0.5 * (np.arange(-12, 13) / 3) ** 2)
        smooth = np.convolve(np.pad(power, 12, mode="symmetric"), weights, mode="valid")
        spectra.append(smooth / smooth.sum())
    expected = math.sqrt(1 - np.sqrt(spectra[0] * spectra[1]).sum())
    pair = torch.tensor(generated)[:, None], torch.tensor(truth)[:, None]
    assert SpectrumDistance(3.0)(*pair).item() == pytest.approx(expected, rel=1e-6)
    assert SpectrumDistance(3.0)(pair[1], 5 * pair[1] + 2).item() == pytest.approx(0, abs=1e-6)
    assert SpectrumDistance()(pair[0] * torch.nan, pair[1]).item() == 1.0

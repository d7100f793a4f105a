"""The bundled network as a graph equals Python: seasons, gaps and intervals in the units of the data."""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from rnn_lightning import PredictionIntervals, PretrainedForecaster
from rnn_lightning.evaluation.interval_widths import learn_half_widths
from rnn_lightning.onnx.export import export_onnx
from rnn_lightning.pretrained.bundled import bundled_network
from rnn_lightning.pretrained.seasonal import SeasonalNetwork
from rnn_lightning.rollout import Innovations, rollout

pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

SEASONS = [1, 2, 3, 4, 7, 12, 24]
POINT = np.zeros((1, 1, 1, 1), np.float32)


@cache
def session_of(path: Path) -> Any:
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(path, settings, providers=["CPUExecutionProvider"])


def run(path: Path, context: Tensor, horizon: int, season: Any, **inputs: Any) -> dict[str, np.ndarray]:
    """The outputs of a graph by name."""
    session = session_of(path)
    seasons = np.broadcast_to(np.asarray(season, np.int64), len(context))
    given = {"context": context.numpy(), "horizon": np.array([horizon]), "season": seasons}
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, {"noise": POINT, **given, **inputs}), strict=True))


def monthly(season: int, batch: int, time: int, num_features: int = 1) -> Tensor:
    """Trend, season and noise in units from a thousandth to a million."""
    torch.manual_seed(season)
    steps, units = torch.arange(float(time))[None, :, None], 10.0 ** torch.tensor([3, -3, 0, 6, 1])
    wave = 10 * torch.sin(2 * np.pi * steps / season + torch.rand(batch, 1, num_features))
    values = 100 + 0.3 * steps + wave + 3 * torch.randn(batch, time, num_features)
    return values * units[:batch, None, None]


def with_gaps(values: Tensor) -> Tensor:
    """A third of the values unknown, the begin of the first series and the end of the last."""
    holed = values.masked_fill(torch.rand_like(values) < 0.3, torch.nan)
    holed[0, :5], holed[-1, -4:] = torch.nan, torch.nan
    return holed


def assert_close(found: np.ndarray, expected: Tensor, context: Tensor) -> None:
    """Equal to 1e-5 of the deviation of each series."""
    scale = np.nanstd(context.numpy(), 1, keepdims=True)
    np.testing.assert_allclose(found / scale, expected.numpy() / scale, rtol=0, atol=1e-5)


def forecast(network: SeasonalNetwork, context: Tensor, horizon: int, season: int, **known: Any) -> Tensor:
    traits = {"season": torch.full((len(context),), season)}
    with torch.no_grad():
        return rollout(network, context, horizon, traits=traits, **known)


@pytest.fixture(scope="module")
def bundled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("graph") / "bundled.onnx"
    export_onnx(bundled_network(), path)
    return path


@pytest.mark.parametrize(("batch", "time", "horizon"), [(1, 100, 24), (4, 60, 30), (3, 6, 1)])
@pytest.mark.parametrize("season", SEASONS)
def test_the_bundled_network_forecasts_as_in_python(
    season: int, batch: int, time: int, horizon: int, bundled: Path
) -> None:
    values = monthly(season, batch, time)
    for context in (values, with_gaps(values) if time > 10 else values - 200):
        expected = forecast(bundled_network(), context, horizon, season)
        found = run(bundled, context, horizon, season)["forecast"]
        assert found.shape == (1, batch, horizon, 1)
        assert_close(found[0], expected, context)


def test_series_of_different_seasons_share_a_batch(bundled: Path) -> None:
    context, seasons = monthly(12, 4, 70), [1, 12, 7, 24]
    together = run(bundled, context, 20, seasons)["forecast"][0]
    for row, season in enumerate(seasons):
        alone = forecast(bundled_network(), context[row : row + 1], 20, season)
        assert_close(together[row : row + 1], alone, context[row : row + 1])


def test_of_a_series_without_a_known_value_nothing_is_forecast(bundled: Path) -> None:
    context = monthly(4, 3, 40)
    context[1] = torch.nan
    found = run(bundled, context, 5, 4)["forecast"][0]
    assert np.isnan(found[1]).all()
    assert_close(found[[0, 2]], forecast(bundled_network(), context[[0, 2]], 5, 4), context[[0, 2]])


def test_constants_zeros_and_a_long_gap_at_the_end_are_forecast_as_in_python(bundled: Path) -> None:
    context = monthly(4, 4, 80)
    context[0], context[1], context[2, 30:] = 5.0, 0.0, torch.nan
    context[3] = (context[3] > context[3].mean()).float()  # intermittent, never negative
    expected = forecast(bundled_network(), context, 9, 4).numpy()
    np.testing.assert_allclose(run(bundled, context, 9, 4)["forecast"][0], expected, rtol=1e-5, atol=1e-5)


def fitted(num_features: int, num_covariates: int) -> SeasonalNetwork:
    """Weights that use the covariates."""
    torch.manual_seed(0)
    network = bundled_network(num_features, num_covariates)
    nn.init.normal_(network.recurrent.all_weights[0][0][:, -num_covariates:], 0, 0.3)
    assert network.effect is not None
    nn.init.normal_(network.effect, 0, 0.3)
    network.covariate_scale.fit([4 * torch.rand(50, num_covariates)])
    return network


def test_covariates_features_and_sampled_paths_are_those_of_python(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rnn_lightning.onnx.forecast import noise_factor

    network, context = fitted(2, 3), with_gaps(monthly(7, 4, 50, 2))
    covariates = (4 * torch.rand(4, 62, 3)).masked_fill(torch.rand(4, 62, 3) < 0.1, torch.nan)
    noise = np.random.default_rng(0).normal(size=(5, 4, 12, 2)).astype(np.float32)
    drawn = torch.from_numpy(noise @ noise_factor(network)).flatten(0, 1)
    monkeypatch.setattr(Innovations, "draw", lambda *_: drawn)
    expected = forecast(network, context, 12, 7, covariates=covariates, num_samples=5)
    path = tmp_path / "tuned.onnx"
    export_onnx(network, path)
    found = run(path, context, 12, 7, covariates=covariates.numpy(), noise=noise)["forecast"]
    assert_close(found, expected, context)


@pytest.mark.parametrize("nonnegative", [False, True])
def test_the_bounds_of_intervals_are_those_of_python(nonnegative: bool, tmp_path: Path) -> None:
    errors = torch.randn(400, 30, 1, generator=torch.manual_seed(0)).cumsum(1)
    half_widths, longest = learn_half_widths(errors, torch.ones(400, 1), origin_step=30)
    intervals = PredictionIntervals()
    facts = {"season": 12, "nonnegative": torch.tensor([nonnegative]), "relative": torch.tensor([0.1])}
    intervals.load_state_dict({"half_widths": half_widths, "horizon": longest, **facts})
    path = tmp_path / "model.onnx"
    export_onnx(bundled_network(), path, intervals.table([50, 95]))
    context = with_gaps(monthly(12, 5, 60))
    context[1] -= context[1].nanmean()
    context[2] = (context[2] > 110).float()  # mostly zero
    context[3] = 7.0
    context[4, :-4] = torch.nan  # new
    found = run(path, context, 1100, 12)
    point = torch.from_numpy(found["forecast"][0])
    bounds = intervals.interval_bounds(point, context, [50, 95], seasons=torch.full((5,), 12))
    names = ["lo-50", "hi-50", "lo-95", "hi-95"]
    assert [name for name in found if name != "forecast"] == names
    for name, expected in zip(names, bounds, strict=True):
        np.testing.assert_allclose(found[name][0], expected, rtol=1e-5, atol=1e-6)


def test_a_graph_without_a_fit_is_the_forecast_of_the_module(bundled: Path) -> None:
    context = monthly(12, 1, 90)
    expected = PretrainedForecaster().forecast(context[0, :, 0].numpy(), 18, season=12)
    found = run(bundled, context, 18, 12)["forecast"][0, 0, :, 0]
    np.testing.assert_allclose(found, expected, rtol=1e-5)

"""The report of a test: it measures the network beside the series, prints and draws."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from rnn_lightning import Forecaster, LorenzSeries, RecordedSeries, SequenceDataModule, SineSeries
from rnn_lightning.data.series import SeriesData
from rnn_lightning.dynamics.measured import measure, spread_forecasts
from rnn_lightning.dynamics.plot import correlation_time, plot_dynamics
from rnn_lightning.errors import InputError


def persistence(values: np.ndarray) -> Forecaster:
    """A network that goes on with what it was fed: with identity weights, a linear one."""
    forecaster = Forecaster(
        num_features=values.shape[1],
        cell="rnn_relu",
        hidden_size=2 * values.shape[1],
        transforms=["standardize"],
    )
    network, size = forecaster.network, values.shape[1]
    network.transforms.fit([torch.from_numpy(values).float()])
    eye = torch.eye(size)
    with torch.no_grad():
        for weights in network.parameters():
            weights.zero_()
        network.recurrent.weight_ih_l0.copy_(torch.cat([eye, -eye]))
        network.readout.weight.copy_(torch.cat([eye, -eye], 1))
    return forecaster.eval()


def test_the_valid_time_is_that_of_the_network() -> None:
    values = LorenzSeries(1000).clean()
    data = SequenceDataModule(RecordedSeries(values, 55.0), 20, 20, test_fraction=0.4)
    data.setup("test")
    measured = measure(persistence(values).network, data)
    batch = spread_forecasts(data)
    assert batch.horizon == 200
    assert len(batch.context) == 40
    assert int(batch.origin.min()) == 599
    assert int(batch.origin.max()) + 200 == 999
    errors = (batch.target - batch.context[:, -1:]).double().square().sum(-1).sqrt()
    errors = errors / batch.scale.double().square().sum(-1).sqrt()[:, None]
    assert torch.allclose(measured.errors, errors, atol=1e-4)
    assert measured.valid.tolist() == [int((row > 0.4).int().argmax()) for row in errors]
    assert "Lyapunov times), the median of 40" in measured.text()
    assert len(plot_dynamics(measured).axes) == 4


def test_a_single_feature_is_drawn_over_its_past() -> None:
    values = np.sin(np.arange(500) * 2 * np.pi / 40)
    assert correlation_time(torch.from_numpy(values)) == pytest.approx(8, abs=1)
    data = SequenceDataModule(RecordedSeries(values), 20, 20, test_fraction=0.4)
    data.setup("test")
    measured = measure(persistence(values[:, None]).network, data)
    assert "Lyapunov" not in measured.text()
    assert "steps before" in plot_dynamics(measured).axes[0].get_ylabel()


def test_a_recording_is_an_array_with_a_unit_of_time() -> None:
    series = RecordedSeries(np.arange(6.0).reshape(3, 2), 4.0)
    assert series.num_features == 2
    assert isinstance(series.load(), SeriesData)
    with pytest.raises(InputError, match="`lyapunov_time` must be above 0"):
        RecordedSeries(np.arange(3.0), 0.0)


@pytest.mark.parametrize("names", ["x,y\n", ""])
def test_a_recording_may_be_a_csv(names: str, tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text(names + "0,1\n2,3\n4,5e0\n")
    values = RecordedSeries(path).load().values
    assert values.tolist() == [[0, 1], [2, 3], [4, 5]]
    path.write_text(names + "0,1\n2,a\n")
    with pytest.raises(InputError, match="every row below the names must have a number"):
        RecordedSeries(path).load()
    with pytest.raises(InputError, match="no such file"):
        RecordedSeries(tmp_path / "y.csv").load()


def test_a_recording_has_the_names_of_its_file_and_no_time(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    for sign in (",", ";", "\t", " "):
        rows = [f"{0.1 * step:.3f},{(step * step) % 7},{step % 3}" for step in range(20)]
        path.write_text("\n".join(["# pendulum", "t,angle,speed", *rows]).replace(",", sign))
        with pytest.warns(UserWarning, match="'t' rises evenly: it is taken as the time and left out"):
            data = RecordedSeries(path).load()
        assert data.features == ["angle", "speed"]
        assert data.values[:3].tolist() == [[0, 0], [1, 1], [4, 2]]
    path.write_text("a,b\n1, \n\n2,3\n  \n")
    values = RecordedSeries(path).load().values
    assert values.dtype == torch.float64
    assert values.shape == (2, 2)
    assert bool(values[0, 1].isnan())
    path.write_text("a,b\n1,2\n3\n")
    with pytest.raises(InputError, match="must have a number, or nothing, for each column"):
        RecordedSeries(path).load()


@pytest.mark.parametrize("digits", [3, 9])
def test_the_time_of_a_recording_may_be_rounded_and_have_gaps(digits: int, tmp_path: Path) -> None:
    """It was trained on as a variable, and the rows on both sides of a gap as neighbours."""
    steps = np.delete(np.arange(400), slice(100, 160))
    values = np.sin(steps / 5)
    rows = [f"{step / 360:.{digits}f} {value:.6f}" for step, value in zip(steps, values, strict=True)]
    path = tmp_path / "x.txt"
    path.write_text("\n".join(["t ecg", *rows]))
    with pytest.warns(UserWarning, match="'t' rises evenly"):
        data = RecordedSeries(path).load()
    assert data.features == ["ecg"]
    assert data.values.isnan().flatten().nonzero().flatten().tolist() == [*range(100, 160)]
    np.testing.assert_allclose(data.values[160:, 0], values[100:], atol=1e-6)


def test_gaps_of_whole_numbers_are_unknown_and_a_wild_time_is_no_time(tmp_path: Path) -> None:
    steps = np.delete(np.arange(100), slice(40, 45))
    recording = np.stack([steps, steps**2 % 7], 1)
    for kind in (np.int64, np.uint8):
        np.save(tmp_path / "x.npy", recording.astype(kind))
        with pytest.warns(UserWarning, match="rises evenly"):
            data = RecordedSeries(tmp_path / "x.npy").load()
        assert data.values.isnan().flatten().nonzero().flatten().tolist() == [*range(40, 45)]
    wild = [f"{time},{time % 7}" for time in [*range(100), 10**13]]
    (tmp_path / "x.csv").write_text("\n".join(["t,x", *wild]))
    assert RecordedSeries(tmp_path / "x.csv").load().features == ["t", "x"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("t;x\n0,0;1,5\n0,1;2,5\n", "row 2 has '0,0': write decimals with a point"),
        ("t,x\ns,mV\n0,1\n1,2\n", "row 2 has 's'"),
    ],
)
def test_what_is_no_number_in_a_recording_is_shown(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        RecordedSeries(tmp_path / "x.csv").load()


def test_a_recording_is_the_file_of_its_name(tmp_path: Path) -> None:
    for name, value in (("rec[1].csv", 1), ("rec1.csv", 2)):
        (tmp_path / name).write_text(f"a,b\n{value},2\n")
    assert float(RecordedSeries(tmp_path / "rec[1].csv").load().values[0, 0]) == 1


def test_state_spaces_of_many_features_have_no_divergence() -> None:
    values = np.random.default_rng(0).normal(size=(400, 7))
    data = SequenceDataModule(RecordedSeries(values), 20, 20, test_fraction=0.4)
    data.setup("test")
    assert "no D_stsp, D_H" in measure(persistence(values).network, data).text()


def test_forecasts_that_hold_to_their_end_hold_at_least_so_long() -> None:
    values = np.full((400, 1), 2.0) + 1e-3 * np.random.default_rng(0).normal(size=(400, 1))
    values[::50] += 1
    data = SequenceDataModule(RecordedSeries(values), 20, 20, test_fraction=0.2)
    data.setup("test")
    measured = measure(persistence(values).network, data)
    measured = dataclasses.replace(measured, valid=torch.full((40,), measured.errors.shape[1]))
    assert "forecasts hold for at least 40 steps, the median of 40, 40 of them to the end" in measured.text()
    assert plot_dynamics(measured).axes[3].get_title(loc="left") == "forecast, valid for at least 40 steps"


@pytest.mark.renders
def test_the_command_says_how_long_forecasts_hold(
    rnn_lightning: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    small = ("--model.solver=reservoir", "--model.hidden_size=200", "--model.input_noise=0")
    lorenz = ("--data.series=LorenzSeries", "--data.series.num_steps=1500")
    lengths = ("--data.context_length=50", "--data.test_fraction=0.4")
    rnn_lightning("fit", *small, "--model.ridge=1e-8", *lorenz, *lengths, "--quiet")
    rnn_lightning("test", *lorenz, *lengths)
    said = capsys.readouterr().out
    assert "Dynamics: forecasts hold for " in said
    assert "Lyapunov times)" in said
    assert Path("runs/default/test_0/dynamics.png").stat().st_size > 10_000
    assert pl.read_csv("runs/default/test_0/metrics.csv")["test_valid_steps"][0] > 10
    assert not hasattr(SineSeries(), "lyapunov_time")

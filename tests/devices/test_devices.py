"""Every path of training and forecasting on a device that is not there, see ``phantom.py``."""

import inspect
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import numpy as np
import polars as pl
import pytest
import torch
from phantom import Device, MixedDevices, phantom
from torch import Tensor

from rnn_lightning import (
    FineTuning,
    Forecaster,
    PredictionIntervals,
    PretrainedForecaster,
    SequenceDataModule,
    Series,
    SeriesData,
    SineSeries,
    TableDataModule,
    TableSeries,
    VariableProjectionForecaster,
    backtest,
    devices,
    export_onnx,
    fit_frame,
    forecast_frame,
)
from rnn_lightning.data import datamodule
from rnn_lightning.data.series import TimeIndex
from rnn_lightning.devices import has_bfloat16_lstm
from rnn_lightning.errors import InputError
from rnn_lightning.evaluation.callbacks import BacktestWriter, ValidationScores
from rnn_lightning.losses import TrainingWindows
from rnn_lightning.network import Cell
from rnn_lightning.pretrained import season_clock, season_track, seasonal
from rnn_lightning.tables.forecast_writer import ForecastWriter
from rnn_lightning.tables.storage import FileArray

pytestmark = [
    pytest.mark.filterwarnings("ignore:You are using a CUDA device"),
    pytest.mark.filterwarnings("ignore:GPU available but not used"),
]

LENGTHS = (50, 40, 45)
HORIZON = 3
SIZES: dict[str, Any] = {"context_length": 12, "scored_length": 4, "horizon": HORIZON}
SIZES |= {"num_batches_per_epoch": 2, "batch_size": 4, "num_samples": 3}


class Shops(Series):
    """Three series of other lengths and seasons, two features, a covariate known for the horizon, gaps."""

    num_features, num_covariates = 2, 1

    def load(self) -> SeriesData:
        noise = torch.randn(sum(LENGTHS), 3, generator=torch.Generator().manual_seed(0))
        offsets = torch.tensor([0, *LENGTHS]).cumsum(0)
        phase = torch.cat([torch.arange(length) / (2 + i) for i, length in enumerate(LENGTHS)])
        values = 5 + phase.sin()[:, None] + 0.1 * noise[:, :2]
        for start, end in zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True):
            values[start + 9 : start + 11] = values[end - HORIZON : end] = torch.nan
        return SeriesData(
            values,
            offsets,
            ["a", "b", "c"],
            ["y0", "y1"],
            TimeIndex([0] * 3, [1] * 3),
            offsets.diff() - HORIZON,
            noise[:, 2:],
            ["price"],
            {"season": torch.tensor([12, 7, 1])},
        )


@pytest.fixture(params=["cuda", "mps"])
def device(request: pytest.FixtureRequest) -> Iterator[Device]:
    with phantom(request.param) as rehearsed:
        yield rehearsed


@pytest.fixture
def cuda() -> Iterator[Device]:
    with phantom("cuda") as rehearsed:
        yield rehearsed


def trainer(folder: Path, *callbacks: L.Callback, **options: Any) -> L.Trainer:
    """A Trainer that takes the device because it is there, as that of a user does."""
    quiet: dict[str, Any] = dict.fromkeys(["logger", "enable_progress_bar", "enable_model_summary"], False)
    settings: dict[str, Any] = {"max_epochs": 1, "num_sanity_val_steps": 0, "enable_checkpointing": False}
    settings |= {"callbacks": [*callbacks], "default_root_dir": folder, "gradient_clip_val": 1.0}
    settings |= {"accelerator": "auto", "devices": 1}
    return L.Trainer(**quiet, **settings | options)


def module(series: Series, **options: Any) -> SequenceDataModule:
    return SequenceDataModule(series, **SIZES | options)


def all_stages(forecaster: Forecaster, data: Any, run: L.Trainer) -> Any:
    run.fit(forecaster, data)
    run.validate(forecaster, data, verbose=False)
    run.test(forecaster, data, verbose=False)
    (forecast,) = run.predict(forecaster, data) or [None]
    return forecast


def test_the_phantom_refuses_what_a_gpu_refuses(device: Device) -> None:
    there, here = torch.ones(3, device=device.kind), torch.ones(3)
    with pytest.raises(MixedDevices, match="two devices"):
        there + here
    with pytest.raises(MixedDevices):
        here[there.long()]
    with pytest.raises(TypeError, match="numpy"):
        there.numpy()
    assert (there + torch.tensor(1.0)).device.type == device.kind
    if device.kind == "mps":
        with pytest.raises(TypeError, match="float64"):
            there.double()
    assert device.count() == (0, 0)


def test_the_phantom_counts_waits_and_copies(cuda: Device) -> None:
    there = torch.tensor([1.0, 2.0], device="cuda")
    assert cuda.count() == (0, 1)
    for look in (bool, float, int):
        look(there[0])
    there.tolist(), there.cpu(), there[there > 1], (there > 1).nonzero()
    there.repeat_interleave(there.long())
    assert cuda.count() == (8, 1)
    there[[0, 1]], there.new_tensor([3.0]), torch.ones(2).to(there)
    assert cuda.count() == (8, 4)


@pytest.mark.usefixtures("cuda")
def test_gradients_cross_the_border() -> None:
    weight = torch.ones(2, requires_grad=True)
    (weight.to("cuda") * torch.tensor([2.0, 3.0], device="cuda")).sum().cpu().backward()
    assert weight.grad is not None
    assert weight.grad.tolist() == [2.0, 3.0]


@pytest.mark.parametrize(
    ("cell", "num_layers"), [("rnn_tanh", 1), ("rnn_relu", 2), ("gru", 2), ("lstm", 1), ("lstm", 2)]
)
def test_a_plain_network_with_gaps_covariates_and_samples(
    device: Device, cell: Cell, num_layers: int, tmp_path: Path
) -> None:
    forecaster = Forecaster(cell=cell, hidden_size=4, num_layers=num_layers, free_run_weight=0.5)
    run = trainer(tmp_path)
    forecast = all_stages(forecaster, module(Shops()), run)
    assert run.strategy.root_device == device.device
    assert forecast.samples.shape == (3, 3, HORIZON, 2)
    assert torch.isfinite(forecast.samples).all()


@pytest.mark.parametrize("transforms", [["difference", "standardize"], ["log", "standardize"], []])
def test_all_transforms(device: Device, transforms: Any, tmp_path: Path) -> None:
    forecaster = Forecaster(cell="gru", hidden_size=4, transforms=transforms)
    assert all_stages(forecaster, module(Shops()), trainer(tmp_path)).point.isfinite().all()
    assert device.copies > 0


needs_bfloat16_lstm = pytest.mark.skipif(
    not has_bfloat16_lstm(), reason="the CPU that stands for the GPU has no LSTM in bfloat16"
)


@pytest.mark.usefixtures("cuda")
@pytest.mark.parametrize(
    ("kind", "precision"),
    [
        pytest.param(Forecaster, "bf16-mixed", marks=needs_bfloat16_lstm),
        (Forecaster, "64-true"),
        pytest.param(PretrainedForecaster, "bf16-mixed", marks=needs_bfloat16_lstm),
    ],
)
def test_other_precisions(kind: type[Forecaster], precision: Any, tmp_path: Path) -> None:
    forecast = all_stages(kind(), module(Shops()), trainer(tmp_path, precision=precision))
    assert forecast.point.dtype == (torch.float64 if precision == "64-true" else torch.float32)


@pytest.mark.usefixtures("cuda")
@needs_bfloat16_lstm
def test_mixed_precision_is_mixed(tmp_path: Path) -> None:
    forecaster, types = Forecaster(num_layers=2), list[torch.dtype]()
    forecaster.network.recurrent.register_forward_hook(lambda *args: types.append(args[2][0].data.dtype))
    trainer(tmp_path, precision="bf16-mixed").fit(forecaster, module(SineSeries(), num_batches_per_epoch=1))
    assert types[0] == torch.bfloat16
    assert torch.float32 in types  # generation


def test_the_forecast_equals_that_of_the_cpu(device: Device) -> None:
    forecaster = Forecaster(num_features=2, num_layers=2)
    forecaster.network.transforms.fitted.fill_(True)
    for each in (forecaster, PretrainedForecaster(num_features=2)):
        context = 5 + np.random.default_rng(0).normal(size=(3, 20, 2))
        context[:, 5] = np.nan
        here = each.forecast(context, HORIZON)
        each.to(device.kind)
        there = each.forecast(context, HORIZON)
        assert np.abs(there - here).max() < 1e-4
        assert each.forecast(torch.from_numpy(context).float(), HORIZON).device.type == "cpu"


@pytest.mark.parametrize("kind", [Forecaster, PretrainedForecaster])
def test_a_stream(device: Device, kind: type[Forecaster]) -> None:
    forecaster = kind(num_features=1, num_covariates=1)
    forecaster.network.residual_covariance.fill_(1.0)
    forecaster.network.transforms.fitted.fill_(True)
    forecaster.to(device.kind)
    history, covariates = np.arange(20.0)[:, None], np.ones((21, 1))
    history[4:6] = np.nan
    state = forecaster.warm_up(history, covariates)
    state = forecaster.observe(state, 21.0, covariates[:1])
    state = forecaster.observe(state, np.nan, covariates[:1])
    future = np.ones((HORIZON - 1, 1))
    assert forecaster.generate(state, HORIZON, covariates=future).device == device.device
    assert forecaster.generate(state, HORIZON, covariates=future, num_samples=2).shape == (2, 1, HORIZON, 1)


def test_the_pretrained_network_with_several_seasons(device: Device, tmp_path: Path) -> None:
    run = trainer(tmp_path)
    forecast = all_stages(PretrainedForecaster(), module(Shops(), batch_size=8, num_batches_per_epoch=1), run)
    assert run.strategy.root_device == device.device
    assert torch.isfinite(forecast.samples).all()


def test_seasons_that_are_given(device: Device) -> None:
    forecaster = PretrainedForecaster().to(device.kind)
    context = torch.randn(3, 30, 1, device=device.kind)
    forecast = forecaster.forecast(context, HORIZON, season=[4, 7, 4], num_samples=2)
    assert forecast.shape == (2, 3, HORIZON, 1)
    assert forecast.device == device.device


@pytest.mark.usefixtures("device")
def test_fine_tuning_with_covariates_and_intervals(tmp_path: Path) -> None:
    forecaster, intervals = PretrainedForecaster(), PredictionIntervals()
    tuning = FineTuning()
    callbacks = [intervals, tuning, ValidationScores()]
    run = trainer(tmp_path, *callbacks, max_epochs=2, reload_dataloaders_every_n_epochs=1)
    run.fit(forecaster, module(Shops(), val_fraction=0.1, test_fraction=0.0, num_batches_per_epoch=1))
    assert intervals.calibrated
    assert "validation forecasts" in tuning.verdict


def test_intervals_scores_and_the_forecast_file(device: Device, tmp_path: Path) -> None:
    table = pl.DataFrame({"unique_id": ["a"] * 60 + ["b"] * 60, "ds": [*range(60)] * 2})
    table = table.with_columns(y=(pl.col("ds") * 0.5).sin() + 3)
    data = TableDataModule(TableSeries(table), **SIZES | {"batch_size": 8})
    forecaster = Forecaster(cell="rnn_tanh", hidden_size=4)
    callbacks = [PredictionIntervals(), BacktestWriter(), ForecastWriter(), ValidationScores()]
    run = trainer(tmp_path, *callbacks)
    all_stages(forecaster, data, run)
    assert run.strategy.root_device == device.device
    assert pl.read_csv(tmp_path / "forecast.csv").columns == ["unique_id", "ds", "y", "y-lo-80", "y-hi-80"]


@pytest.mark.parametrize("is_there", [False, True])
def test_frames_fit_a_network_on_the_cpu_and_on_the_device(device: Device, is_there: bool) -> None:
    table = pl.DataFrame({"ds": [*range(60)], "y": [float(step % 6) for step in range(60)]})
    forecaster = Forecaster(hidden_size=4, transforms=["difference", "standardize_context"])
    fitted = fit_frame(forecaster.to(device.kind if is_there else "cpu"), table, HORIZON, max_epochs=1)
    assert forecast_frame(fitted, table).height == HORIZON


def test_values_in_a_file_stay_there(cuda: Device, tmp_path: Path) -> None:
    table = pl.DataFrame({"ds": [*range(60)], "y": [float(step % 6) for step in range(60)]})
    data = TableDataModule(TableSeries(table, scratch_folder=str(tmp_path)), **SIZES)
    trainer(tmp_path).fit(Forecaster(hidden_size=4), data)
    assert isinstance(data.data.values, FileArray)
    assert cuda.copies > 0


@pytest.mark.usefixtures("cuda")
def test_a_fit_that_diverges_between_two_looks_at_the_loss_is_stopped(tmp_path: Path) -> None:
    class Diverging(Forecaster):
        def loss(self, windows: TrainingWindows) -> Tensor:
            return super().loss(windows) * (torch.nan if self.global_step == 3 else 1.0)

    with pytest.raises(InputError, match="training has diverged"):
        trainer(tmp_path).fit(
            Diverging(hidden_size=4), module(SineSeries(), num_batches_per_epoch=6, val_fraction=0.0)
        )


def test_forecast_frame_and_backtest(device: Device) -> None:
    forecaster = PretrainedForecaster().to(device.kind)
    table = pl.DataFrame({"ds": [*range(60)], "y": [float(step % 6) for step in range(60)]})
    before = device.copies
    frame = forecast_frame(forecaster, table, HORIZON, num_samples=3, num_paths=1)
    assert frame.height == HORIZON
    assert device.copies > before
    assert forecaster.to(device.kind).device.type == device.kind
    result = backtest(forecaster, TableSeries(table).load(), 2, horizon=HORIZON, season=6)
    assert result.forecasts.height == 2 * HORIZON


def test_the_commands(device: Device, rnn_lightning: Callable[..., None], tmp_path: Path) -> None:
    """A fit with checkpoints, a resumed one, and a forecast, by the device that is asked for."""
    gpu = "--trainer.accelerator=gpu"
    small = ["--data.num_batches_per_epoch=2", "--trainer.max_epochs=1", "--experiment=e", gpu]
    rnn_lightning("fit", *small, "--model.hidden_size=4", "--quiet")
    rnn_lightning("fit", *small, "--trainer.max_epochs=2", "--ckpt_path=last", "--quiet")
    rnn_lightning("test", "--experiment=e", gpu)
    rnn_lightning("predict", "--experiment=e", "--data.horizon=3", gpu, "--quiet")
    assert pl.read_csv(tmp_path / "runs/e/predict_0/forecast.csv").height == 3
    assert device.copies > 0


def test_a_solver_runs_on_the_cpu_where_the_device_has_no_float64(
    rnn_lightning: Callable[..., None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = ["--model.hidden_size=4", "--model.input_noise=0", "--model.ridge=1e-6", "--trainer.max_epochs=2"]
    with phantom("mps") as device:
        rnn_lightning("fit", "--model.solver=variable_projection", *few, "--trainer.accelerator=gpu")
        rnn_lightning("predict", "--data.horizon=3", "--trainer.accelerator=mps", "--quiet")
        assert device.count() == (0, 0)
        with pytest.raises(InputError, match="needs float64, which this device lacks"):
            trainer(tmp_path, gradient_clip_val=None).fit(
                VariableProjectionForecaster(hidden_size=4), module(SineSeries())
            )
    assert "Device: the CPU, because a solver computes in float64" in capsys.readouterr().out
    assert pl.read_csv(tmp_path / "runs/default/predict_0/forecast.csv").height == 3


def test_export_of_a_network_on_the_device(device: Device, tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    forecaster = Forecaster(num_features=1, transforms=["standardize"])
    forecaster.network.transforms.fitted.fill_(True)
    export_onnx(forecaster.to(device.kind).network, tmp_path / "network.onnx")
    assert (tmp_path / "network.onnx").stat().st_size > 1000


class Counts(L.Callback):
    """The waits and the copies of each training step, from one batch to the next."""

    def __init__(self, device: Device) -> None:
        self.device, self.before, self.steps = device, (0, 0), list[tuple[int, int]]()

    def on_train_batch_start(self, *_: Any) -> None:
        self.before = self.device.count()

    def on_train_batch_end(self, *_: Any) -> None:
        waits, copies = self.device.count()
        self.steps.append((waits - self.before[0], copies - self.before[1]))


@pytest.mark.parametrize("cell", ["rnn_tanh", "gru", "lstm"])
def test_a_plain_training_step_waits_for_nothing(cuda: Device, cell: Cell, tmp_path: Path) -> None:
    """The first step looks at the loss, as every fiftieth does, and the last one of an epoch logs it."""
    counts = Counts(cuda)
    forecaster = Forecaster(cell=cell, hidden_size=4, num_layers=2, free_run_weight=0.5)
    trainer(tmp_path, counts).fit(forecaster, module(SineSeries(), num_batches_per_epoch=6))
    assert counts.steps[1:-1] == [(0, 0)] * 4
    assert counts.steps[0][0] == 1


@pytest.mark.parametrize("series", [SineSeries(num_series=2), Shops()])
def test_only_the_places_of_training_windows_are_copied(
    cuda: Device, series: Series, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Values that do not fit there are copied window by window instead, and train the same network."""

    class Copied(L.Callback):
        def on_train_batch_start(self, *_: Any) -> None:
            copied.append((cuda.copied, cuda.waits["aten::_local_scalar_dense"], cuda.pageable))

    losses, numbers, pageable = [], [], []
    for limit in (0, 2**30):
        monkeypatch.setattr(devices, "MAX_DEVICE_BYTES", limit)
        monkeypatch.setattr(datamodule, "NUMBERS_TOGETHER", 1)  # one batch at a time
        copied: list[tuple[int, int, int]] = []
        torch.manual_seed(0)
        run = trainer(tmp_path, Copied())
        run.fit(Forecaster(hidden_size=4), module(series, num_batches_per_epoch=4, val_fraction=0.0))
        numbers.append([after[0] - before[0] for before, after in itertools.pairwise(copied[1:])])
        losses.append(run.callback_metrics["train_loss"])
        pageable.append(copied[-1][2] - copied[0][2])
    starts = 3 * 4  # of a batch of four, with the first and the last row of their segments
    saved = [window - start for window, start in zip(*numbers, strict=True)]
    assert saved == [4 * 16 * series.num_features - starts] * 2
    assert losses[0] == losses[1]
    if isinstance(series, SineSeries):  # whose values are all known: nobody looks
        assert numbers[1] == [starts] * 2
        assert copied[-1][1] == copied[1][1]
        assert pageable == [0, 0]  # all come through pinned memory


@pytest.mark.usefixtures("cuda")
def test_an_accelerator_is_given_larger_batches_of_forecasts(tmp_path: Path) -> None:
    forecaster, data = Forecaster(hidden_size=4), module(SineSeries(num_series=3000), num_samples=None)
    of_cpu = forecasts_in_batches(forecaster, data, trainer(tmp_path, accelerator="cpu"))
    of_gpu = forecasts_in_batches(forecaster, data, trainer(tmp_path))
    assert [len(of_cpu), len(of_gpu)] == [2, 1]
    assert sum(of_cpu) == sum(of_gpu) == 3000


def forecasts_in_batches(forecaster: Forecaster, data: Any, run: L.Trainer) -> list[int]:
    forecaster.network.transforms.fitted.fill_(True)
    forecasts: Any = run.predict(forecaster, data)
    return [len(forecast.point) for forecast in forecasts]


def test_a_seasonal_training_step_waits_once(cuda: Device, tmp_path: Path) -> None:
    """Once, because the free run asks whether all series have begun; tables of constants are there."""
    counts = Counts(cuda)
    data = module(SineSeries(), num_batches_per_epoch=4, scored_length=20, val_fraction=0.0)
    trainer(tmp_path, counts).fit(PretrainedForecaster(), data)
    waits, copies = zip(*counts.steps[1:-1], strict=True)
    assert set(waits) == {1}
    assert set(copies) == {0}


@pytest.mark.parametrize(("kind", "counted"), [(Forecaster, (3, 0)), (PretrainedForecaster, (4, 0))])
def test_waits_and_copies_of_a_batch_of_forecasts_do_not_grow_with_the_horizon(
    cuda: Device, kind: type[Forecaster], counted: tuple[int, int]
) -> None:
    forecaster = kind(num_features=1).to("cuda")
    forecaster.network.transforms.fitted.fill_(True)
    context = torch.randn(5, 30, 1, device="cuda")
    with torch.no_grad():
        forecaster(context, HORIZON)  # copies the tables of constants
    for horizon in (3, 30):
        before = cuda.count()
        with torch.no_grad():
            forecaster(context, horizon)
        after = cuda.count()
        assert (after[0] - before[0], after[1] - before[1]) == counted


def test_series_that_start_at_different_steps_are_one_call_of_the_layers(cuda: Device) -> None:
    """The places of the packed steps are copied, and the starts come back."""
    forecaster = PretrainedForecaster(num_features=1)
    context = torch.randn(7, 30, 1)
    for row in range(7):
        context[row, : 3 * row] = torch.nan
    with torch.no_grad():
        expected = forecaster(context, HORIZON)
        forecaster, context, calls = forecaster.to("cuda"), context.to("cuda"), list[int]()
        forecaster(context, HORIZON)  # copies the tables of constants
        forecaster.network.recurrent.register_forward_hook(lambda *_: calls.append(1))
        before = cuda.count()
        forecast = forecaster(context, HORIZON)
    after = cuda.count()
    assert len(calls) == 1
    assert (after[0] - before[0], after[1] - before[1]) == (7, 5)
    assert (forecast.cpu() - expected).abs().max() < 1e-5


@pytest.mark.usefixtures("cuda")
def test_a_tensor_that_forgets_the_device_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutation that once was in the package: constants of the seasonal network on the CPU."""
    source = inspect.getsource(season_clock)
    mutated = source.replace("table(RATES, like.dtype, like.device)", "torch.tensor(RATES)")
    assert mutated != source
    names: dict[str, Any] = {"__name__": season_clock.__name__}
    exec(compile(mutated, "mutated", "exec"), names)
    forecaster = PretrainedForecaster().to("cuda")
    context = torch.randn(2, 30, 1, device="cuda")
    forecaster.forecast(context, HORIZON)
    for user in (season_track, seasonal):
        monkeypatch.setattr(user, "clock", names["clock"])
    with pytest.raises(MixedDevices, match="aten::maximum"):
        forecaster.forecast(context, HORIZON)

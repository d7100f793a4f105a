"""From a frame to a frame, with the columns that a checkpoint knows."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import numpy as np
import polars as pl
import pytest
import torch

from rnn_lightning import (
    BundledForecaster,
    Forecaster,
    PredictionIntervals,
    PretrainedForecaster,
    SineSeries,
    TableDataModule,
    TableSeries,
    forecast_frame,
    plot_forecast,
)
from rnn_lightning.errors import InputError

ROOT = Path(__file__).parents[2]
READING: dict[str, Any] = {
    "id_column": "shop",
    "time_column": "day",
    "target_columns": ["sold"],
    "covariate_columns": ["promo"],
    "calendar_features": ["weekday"],
}


def trainer(*callbacks: L.Callback) -> L.Trainer:
    quiet = dict.fromkeys(
        ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False
    )
    return L.Trainer(max_epochs=1, limit_train_batches=3, callbacks=[*callbacks], **quiet)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def shops() -> pl.DataFrame:
    return pl.read_csv(ROOT / "data/shops.csv", try_parse_dates=True)


@pytest.fixture(scope="module")
def checkpoint(shops: pl.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network fitted on a frame, without a word about its numbers of features and covariates."""
    path = tmp_path_factory.mktemp("checkpoint") / "shops.ckpt"
    fit = trainer(PredictionIntervals())
    fit.fit(Forecaster(hidden_size=4), TableDataModule(TableSeries(shops, **READING), horizon=7))
    fit.save_checkpoint(path)
    return path


pd = pytest.importorskip("pandas")
DAYS = pd.date_range("2024-01-01", periods=40)


@pytest.mark.parametrize(
    ("frame", "first"),
    [
        (pd.DataFrame({"ds": DAYS.strftime("%Y%m%d").astype(int)}), "2024-02-10 00:00:00"),
        (pd.DataFrame({"ds": DAYS.astype(str).astype("category")}), "2024-02-10"),
        (pd.DataFrame(index=DAYS.rename("y")), "2024-02-10 00:00:00"),
        (pd.DataFrame({"year": DAYS.year, "month": DAYS.month, "day": DAYS.day}), "2024-02-10"),
        (pd.DataFrame(index=range(40)), "41"),
    ],
)
def test_frames_of_pandas_of_all_kinds_get_stamps(frame: Any, first: str) -> None:
    """They were a TypeError, NaN, a ValueError and two times a KeyError."""
    frame = frame.assign(y=np.arange(40) % 7)
    with warnings.catch_warnings(action="ignore"):
        found = forecast_frame(BundledForecaster(), frame, horizon=2)
    assert str(next(iter(found["ds"]))) == first


def test_a_loaded_forecaster_takes_a_frame_and_returns_what_predict_gives(
    shops: pl.DataFrame, checkpoint: Path
) -> None:
    forecaster = Forecaster.load_from_checkpoint(checkpoint, weights_only=True)
    intervals = PredictionIntervals.from_checkpoint(checkpoint)
    wanted: dict[str, Any] = {"num_samples": 20, "levels": (50, 80), "num_paths": 1}
    table = forecast_frame(forecaster, shops, intervals=intervals, **wanted)
    names = ["sold", "sold-lo-50", "sold-hi-50", "sold-lo-80", "sold-hi-80", "sold-path-1"]
    assert table.columns == ["shop", "day", *names]
    data = TableDataModule(TableSeries(shops, **READING), horizon=7, num_samples=20)
    predicted: Any = trainer().predict(forecaster, data)
    (forecast,), (batch,) = predicted, data.predict_dataloader()
    given = {"context": batch.context, "seasons": batch.traits["season"]}
    bounds = intervals.interval_bounds(forecast.point, levels=[50, 80], **given)
    paths = intervals.spread_paths(forecast.samples, forecast.point, **given)
    np.testing.assert_array_equal(table["sold"], forecast.point.ravel())
    np.testing.assert_allclose(table["sold-path-1"], paths[0].ravel(), rtol=1e-6)
    np.testing.assert_allclose(table["sold-hi-50"], bounds[1].ravel(), rtol=1e-6)
    assert forecast_frame(forecaster, shops, **wanted).equals(table)  # those of its checkpoint
    forecaster.callback_states = {}
    sampled = forecast_frame(forecaster, shops, **wanted)
    np.testing.assert_array_equal(sampled["sold-path-1"], forecast.samples[0].ravel())
    high = forecast.samples.quantile(0.75, 0).maximum(forecast.point)
    np.testing.assert_allclose(sampled["sold-hi-50"], high.ravel(), rtol=1e-6)
    assert table["shop"].unique(maintain_order=True).to_list() == list(data.data.ids)
    types = {"shop": pl.String, "day": pl.Date, "sold": pl.Float64}
    assert {name: table.schema[name] for name in types} == types
    known = shops.filter(pl.col("sold").is_not_null()).cast({"sold": pl.Float64})
    appended = pl.concat([known.select(*types), table.select(*types)])
    assert appended.group_by("shop").agg(pl.col("day").is_duplicated().any())["day"].sum() == 0
    assert len(forecast_frame(forecaster, shops, horizon=2)) == 2 * data.data.num_series


def test_a_checkpoint_forecasts_as_the_network_in_it(shops: pl.DataFrame, checkpoint: Path) -> None:
    forecaster = Forecaster.load_from_checkpoint(checkpoint, weights_only=True)
    kept: dict[str, Any] = {"intervals": PredictionIntervals.from_checkpoint(checkpoint)}
    expected = forecast_frame(forecaster, shops, **kept)
    assert expected.columns == ["shop", "day", "sold", "sold-lo-80", "sold-hi-80"]
    assert forecast_frame(checkpoint, shops).equals(expected)
    shorter = forecast_frame(forecaster, shops, 3, **kept)
    assert forecast_frame(str(checkpoint), shops, 3).equals(shorter)
    with pytest.raises(InputError, match=r"there is no checkpoint nowhere\.ckpt"):
        forecast_frame("nowhere.ckpt", shops)


class UnitIntervals(L.Callback):
    """Prediction intervals from one below the forecast to one above it."""

    horizon = 7

    def interval_bounds(
        self, point: torch.Tensor, context: torch.Tensor, levels: Sequence[float], **_: Any
    ) -> torch.Tensor:
        assert len(context) == len(point)
        return torch.stack([point - 1, point + 1] * len(levels))

    def spread_paths(self, samples: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
        return samples


def test_intervals_are_those_available_and_never_missing(shops: pl.DataFrame) -> None:
    without = Forecaster(hidden_size=4)
    data = TableDataModule(TableSeries(shops, **READING), horizon=7, val_fraction=0)
    trainer().fit(without, data)
    assert forecast_frame(without, shops).columns == ["shop", "day", "sold"]
    with pytest.raises(InputError, match=r"`levels` \[80\]: there are no prediction intervals"):
        forecast_frame(without, shops, levels=[80])
    without.network.residual_covariance.fill_(0.1)
    sampled = ["shop", "day", "sold", "sold-lo-80", "sold-hi-80"]
    assert forecast_frame(without, shops, num_samples=3).columns == sampled
    assert forecast_frame(without, shops, num_samples=3, levels=[]).columns == sampled[:3]
    own: Any = UnitIntervals()
    table = forecast_frame(without, shops, intervals=own)
    assert table.columns == sampled
    np.testing.assert_allclose(table["sold-hi-80"] - table["sold-lo-80"], 2, atol=1e-3)


def test_quantiles_are_the_bounds_of_the_intervals_of_their_levels(
    shops: pl.DataFrame, checkpoint: Path
) -> None:
    wanted: dict[str, Any] = {"levels": [50, 80], "quantiles": [0.9, 0.1, 0.5, 0.75, 0.025]}
    pairs = {"q-10": "-lo-80", "q-50": "", "q-75": "-hi-50", "q-90": "-hi-80"}
    names = [f"sold-q-{each}" for each in ("2.5", "10", "50", "75", "90")]
    ways: list[dict[str, Any]] = [{}, {"num_samples": 40}]
    for settings in ways:
        table = forecast_frame(checkpoint, shops, **settings, **wanted)
        assert table.columns[-5:] == names
        for quantile, bound in pairs.items():
            np.testing.assert_array_equal(table[f"sold-{quantile}"], table[f"sold{bound}"])
        assert (table["sold-q-2.5"] <= table["sold-q-10"]).all()
    known = Forecaster.load_from_checkpoint(checkpoint, weights_only=True)
    known.callback_states = {}
    sampled = forecast_frame(known, shops, num_samples=40, **wanted)  # the paths alone give intervals
    assert sampled["sold-q-90"].equals(sampled["sold-hi-80"].rename("sold-q-90"))
    alone = forecast_frame(checkpoint, shops, levels=[], quantiles=[0.1])
    assert alone.columns == ["shop", "day", "sold", "sold-q-10"]
    np.testing.assert_array_equal(alone["sold-q-10"], table["sold-q-10"])
    axes = plot_forecast(shops, table, ["Brno"], id_column="shop", time_column="day").axes
    assert [axis.get_ylabel() for axis in axes] == ["sold"]
    with pytest.raises(InputError, match=r"`quantiles` must be between 0 and 1, such as 0.9, got 90"):
        forecast_frame(checkpoint, shops, quantiles=[90])
    with pytest.raises(InputError, match=r"`quantiles` \[0.9\]: there are no prediction intervals"):
        forecast_frame(known, shops, quantiles=[0.9])


def test_steps_of_another_frequency_than_those_of_the_fit_are_refused(
    shops: pl.DataFrame, checkpoint: Path
) -> None:
    hour = pl.duration(hours=pl.int_range(pl.len()).over("shop"))
    hours = shops.with_columns(day=pl.datetime(2024, 1, 1) + hour)
    message = "the series have steps of 1h, and the network was trained on steps of 1d"
    fitted = Forecaster.load_from_checkpoint(checkpoint, weights_only=True)
    for forecaster in (checkpoint, fitted):
        with pytest.raises(InputError, match=message):
            forecast_frame(forecaster, hours)


def test_a_covariate_far_from_those_of_the_fit_is_told(shops: pl.DataFrame, checkpoint: Path) -> None:
    is_future = pl.col("sold").is_null()
    far = shops.with_columns(promo=pl.when(is_future).then(1000.0).otherwise("promo"))
    with pytest.warns(UserWarning, match="the covariate 'promo' is 1000 ahead and was .* in the fit"):
        forecast_frame(checkpoint, far)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        forecast_frame(checkpoint, shops)


def test_a_shop_without_known_covariates_is_left_out(shops: pl.DataFrame, checkpoint: Path) -> None:
    forecaster = Forecaster.load_from_checkpoint(checkpoint, weights_only=True)
    expected, names = forecast_frame(forecaster, shops), shops["shop"].unique(maintain_order=True)
    is_future = pl.col("sold").is_null() & (pl.col("shop") == names[1])
    closed = shops.filter(~is_future)
    with pytest.warns(UserWarning, match=f"1 of {len(names)} series are not forecast.*{names[1]!r}"):
        table = forecast_frame(forecaster, closed)
    assert table.equals(expected.filter(pl.col("shop") != names[1]))
    with pytest.raises(InputError, match="the covariate 'promo' is not known"):
        forecast_frame(forecaster, closed, skip_incomplete=False)
    data = TableDataModule(TableSeries(closed, **READING), horizon=7)
    with pytest.raises(InputError, match="the covariate 'promo' is not known"):
        trainer().predict(forecaster, data)
    assert repr(names[1]) in data.leave_out_incomplete()
    assert len(data.data.ids) == len(names) - 1
    data.setup("fit")
    assert len(data.data.ids) == len(names)
    assert data.leave_out_incomplete()


def test_a_pandas_frame_comes_back_as_one_with_its_types(shops: pl.DataFrame, checkpoint: Path) -> None:
    forecaster = Forecaster.load_from_checkpoint(checkpoint, weights_only=True)
    expected = forecast_frame(forecaster, shops, 3)
    frame = pd.DataFrame(shops.to_dict(as_series=False))
    for zone in (None, "Europe/Prague"):
        stamps = pd.to_datetime(frame["day"])
        given = frame.assign(day=stamps if zone is None else stamps.dt.tz_localize(zone))
        given["shop"] = given["shop"].astype("category")
        table = forecast_frame(forecaster, given, 3)
        assert isinstance(table, pd.DataFrame)
        assert table.dtypes["day"] == given.dtypes["day"]
        assert table.dtypes["shop"] == given.dtypes["shop"]
        assert table["day"].dt.date.tolist() == expected["day"].to_list()
        np.testing.assert_allclose(table["sold"], expected["sold"], rtol=1e-6)
    objects = forecast_frame(forecaster, frame, 3)
    assert list(objects["day"]) == expected["day"].to_list()


def test_a_series_of_pandas_comes_back_as_a_frame() -> None:
    months = pd.period_range("2020-01", periods=40, freq="M")
    table = forecast_frame(PretrainedForecaster(), pd.Series([row % 12 for row in range(40)], months), 2)
    assert list(table.columns) == ["ds", "y", "y-lo-80", "y-hi-80"]
    assert [str(stamp) for stamp in table["ds"]] == ["2023-05", "2023-06"]


def test_a_network_fitted_to_no_table_forecasts_its_own_horizon(tmp_path: Path) -> None:
    fit = trainer(PredictionIntervals())
    fit.fit(Forecaster(hidden_size=4), TableDataModule(SineSeries(), 30, 30, horizon=9))
    fit.save_checkpoint(tmp_path / "sine.ckpt")
    frame = pl.DataFrame({"ds": np.arange(80), "y": np.sin(np.arange(80) / 5)})
    forecast = forecast_frame(tmp_path / "sine.ckpt", frame)
    assert forecast.shape == (9, 4)
    loaded = Forecaster.load_from_checkpoint(tmp_path / "sine.ckpt", weights_only=True)
    np.testing.assert_allclose(forecast["y"], loaded.forecast(frame["y"].to_numpy()[-30:], 9), atol=1e-6)


def test_a_damaged_checkpoint_is_refused(tmp_path: Path, checkpoint: Path, shops: pl.DataFrame) -> None:
    whole = checkpoint.read_bytes()
    (tmp_path / "cut.ckpt").write_bytes(whole[: len(whole) // 2])
    torch.save({"state_dict": {}}, tmp_path / "other.ckpt")
    for name, message in (("cut", "is no checkpoint, or a damaged one"), ("other", "has no hyperparameters")):
        with pytest.raises(InputError, match=message):
            forecast_frame(tmp_path / f"{name}.ckpt", shops)


def test_two_rows_have_no_intervals_and_that_is_told() -> None:
    frame = pl.DataFrame({"ds": [1, 2], "y": [3.0, 4.0]})
    with pytest.warns(UserWarning, match="too few values to calibrate prediction intervals"):
        assert forecast_frame(None, frame, horizon=2).columns == ["ds", "y"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        forecast_frame(None, frame, horizon=2, levels=[])


def test_pandas_may_have_other_names_and_two_levels() -> None:
    pandas = pytest.importorskip("pandas")
    days = pandas.date_range("2024-01-01", periods=60)
    values = np.arange(60.0) % 7
    plain = pandas.DataFrame({"ds": days, "y": values})
    expected = forecast_frame(None, plain, horizon=3)["y"]
    for frame in (
        pandas.DataFrame({"time": days, "rps": values}),
        pandas.DataFrame({"rps": values}, index=days),
    ):
        assert forecast_frame(None, frame, horizon=3)["rps"].equals(expected.rename("rps"))
    levels = pandas.MultiIndex.from_product([["a", "b"], days])
    for names in (["unique_id", "ds"], [None, None]):
        series = pandas.Series(np.tile(values, 2), index=levels.set_names(names))
        for table in (series, series.to_frame("y")):
            found: Any = forecast_frame(None, table, horizon=3)
            assert found["unique_id"].tolist() == ["a"] * 3 + ["b"] * 3
            assert np.allclose(found["y"][:3], expected)
    both = {"a": plain, "b": plain.assign(y=3.0)}
    named = pandas.concat(both, names=["unique_id", None])  # as groupby(...).apply(...) returns it
    known = pandas.concat({name: frame.assign(unique_id=name) for name, frame in both.items()})
    for table in (named, known):
        found = forecast_frame(None, table, horizon=3)
        assert found["unique_id"].tolist() == ["a"] * 3 + ["b"] * 3


def test_other_columns_can_be_named(shops: pl.DataFrame, checkpoint: Path) -> None:
    forecaster = Forecaster.load_from_checkpoint(checkpoint, weights_only=True)
    expected = forecast_frame(forecaster, shops, 3)
    table = forecast_frame(forecaster, shops.rename({"shop": "id"}), 3, id_column="id")
    assert table.rename({"id": "shop"}).equals(expected)
    with pytest.raises(InputError, match="there is no option 'ids'; there are id_column, time_column"):
        forecast_frame(forecaster, shops, 3, ids="id")
    with pytest.raises(
        InputError, match="`num_paths` 3 is above the number of sampled paths, 2: raise `num_samples`"
    ):
        forecast_frame(forecaster, shops, 3, num_samples=2, num_paths=3)
    with pytest.raises(InputError, match="has no column 'shop'"):
        forecast_frame(forecaster, shops.rename({"shop": "id"}), 3)
    with pytest.raises(InputError, match="the covariate 'promo' is not known over"):
        forecast_frame(forecaster, shops, 300)
    with pytest.raises(InputError, match="has not been fitted"):
        forecast_frame(Forecaster(), shops)
    with pytest.raises(InputError, match="forecast takes numbers: call forecast_frame with a table"):
        forecaster.forecast(shops, 3)


def test_a_data_module_takes_frames_paths_and_arrays(tmp_path: Path) -> None:
    frame = pl.DataFrame({"ds": range(40), "y": np.sin(np.arange(40.0))})
    frame.write_csv(tmp_path / "table.csv")
    for source in (frame, tmp_path / "table.csv", frame.select("y").to_numpy()):
        data = TableDataModule(source, context_length=5, scored_length=5, horizon=2)
        assert data.describe().startswith("data      1 series, 40 steps")
        np.testing.assert_allclose(data.data.values[:, 0], frame["y"], rtol=1e-6)


def test_a_path_in_the_place_of_a_frame_is_refused() -> None:
    with pytest.raises(InputError, match=r"`frame` is the path sales\.csv: read the file first"):
        forecast_frame(None, "sales.csv", horizon=3)


def test_wrong_frames_are_met_with_what_to_do(shops: pl.DataFrame) -> None:
    network = PretrainedForecaster()
    columns: dict[str, Any] = {"time_column": "day", "target_columns": "sold"}
    with pytest.raises(InputError, match="name the column that tells series apart by `id_column`"):
        forecast_frame(network, shops, **columns)
    with pytest.raises(InputError, match="`frame` is an array: give a frame with a column of times"):
        forecast_frame(network, np.zeros(9))
    with pytest.raises(InputError, match=r"`levels` are percentages from 1 to 99, such as 80, got 0\.8"):
        forecast_frame(network, shops, levels=[0.8], id_column="shop", **columns)  # type: ignore[list-item]
    with pytest.raises(InputError, match="has no column") as long:
        forecast_frame(network, shops)
    assert "unpivot" not in str(long.value)
    with pytest.raises(InputError, match="unpivot"):
        forecast_frame(network, shops.select("day", a="sold", b="sold"))
    with pytest.raises(InputError, match=r"no column 'ds'.*: name the right ones by `time_column`"):
        plot_forecast(shops, shops)


def test_a_network_that_ignores_covariates_says_so(shops: pl.DataFrame) -> None:
    with pytest.warns(UserWarning, match=r"the bundled network ignores covariates \('promo'"):
        table = forecast_frame(PretrainedForecaster(), shops, levels=95, horizon=7, **READING)
    assert table.columns == ["shop", "day", "sold", "sold-lo-95", "sold-hi-95"]

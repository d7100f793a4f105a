"""Covariates that are known up to the origin alone: of use where they lead, and never known ahead."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from rnn_lightning import Forecaster, TableDataModule, TableSeries, backtest, forecast_frame
from rnn_lightning.data.windows import forecast_batch, future_batch, window_batch
from rnn_lightning.tables.fit_frame import quiet_trainer

LAG = 3
ORDERS: dict[str, Any] = {"past_covariate_columns": "orders"}


def sales(num_steps: int = 1500) -> pl.DataFrame:
    """Sales that are the orders of three steps before, which nothing else tells."""
    rng = np.random.default_rng(0)
    orders = rng.choice([-1.0, 1.0], size=num_steps)
    values = np.roll(orders, LAG) + 0.1 * rng.normal(size=num_steps)
    return pl.DataFrame({"ds": np.arange(num_steps), "y": values, "orders": orders})


def fitted(frame: pl.DataFrame, **options: Any) -> Forecaster:
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"context_length": 10, "scored_length": 3, "horizon": LAG, "season": "none"}
    data = TableDataModule(TableSeries(frame, **options), **sizes, num_batches_per_epoch=100)
    network = Forecaster(cell="gru", hidden_size=16, transforms=["standardize"], learning_rate=0.02)
    quiet_trainer(network, [], max_epochs=4).fit(network, data)
    return network


def test_unknown_past_covariates_are_told() -> None:
    frame = sales(40).with_columns(orders=pl.when(pl.col("ds") < 10).then(pl.col("orders")))
    (note,) = TableSeries(frame, **ORDERS).load().notes
    assert note == "Replaced 30 unknown values of the past covariate 'orders' by its mean."


@pytest.fixture(scope="module")
def informed() -> Forecaster:
    return fitted(sales(), **ORDERS)


def test_a_leading_indicator_improves_the_forecast(informed: Forecaster) -> None:
    errors = []
    for network in (fitted(sales()), informed):
        result = backtest(network, sales(), 20, horizon=LAG, context_length=10)
        errors.append(result.scores.pooled("mae")["rnn"])
    assert errors[1] < 0.15 * errors[0], errors  # measured: 1.01 and 0.09


def test_no_value_after_the_origin_reaches_a_forecast(informed: Forecaster) -> None:
    frame, origin = sales(), 1400
    coming = pl.col("ds") >= origin
    changed = frame.with_columns(orders=pl.when(coming).then(5.0).otherwise("orders"))
    until = [each.with_columns(y=pl.when(~coming).then("y")) for each in (frame, changed)]
    tables = [forecast_frame(informed, each) for each in (*until, frame.filter(~coming))]
    for table in tables[1:]:
        assert table["y"].equals(tables[0]["y"])
    results = [backtest(informed, each, 1, horizon=100, context_length=10) for each in (frame, changed)]
    assert results[0].forecasts["rnn"].equals(results[1].forecasts["rnn"])
    past = changed.with_columns(orders=pl.when(pl.col("ds") == origin - 1).then(5.0).otherwise("orders"))
    assert not forecast_frame(informed, past.filter(~coming))["y"].equals(tables[0]["y"])


def test_every_batch_knows_them_up_to_its_origin_one_step_later() -> None:
    """Each step has the value of the step before, and whether it is known, which predict the step itself."""
    frame = pl.DataFrame({"unique_id": ["a"] * 9 + ["b"] * 9, "ds": [*range(9)] * 2, "y": 0.0})
    frame = frame.with_columns(orders=pl.int_range(18).cast(pl.Float64))
    data = TableDataModule(TableSeries(frame, **ORDERS), 4, 3, horizon=3, season="none")
    data.setup("fit")
    train, test, item = data.segments["train"], data.segments["test"], torch.tensor([1])
    known = [[-1, 0], [9, 1], [10, 1], [11, 1], [12, 1], [-1, 0], [-1, 0]]
    batch = window_batch(data.data, train, data.training_starts(), 4, 7, item)
    assert batch.covariates is not None
    assert batch.covariates[0].nan_to_num(-1).tolist() == known
    cut = partial(forecast_batch, data.data, test, data.forecast_starts("test"), 4, 3, None, 0)
    held_out = cut(item).covariates
    assert held_out is not None
    assert held_out[0, :, 1].tolist() == [1, 1, 1, 1, 1, 0, 0]
    ahead = future_batch(data.data, 4, 3, None, 0, item).covariates
    assert ahead is not None
    assert ahead[0].nan_to_num(-1).tolist() == [*[[each, 1] for each in range(13, 18)], [-1, 0], [-1, 0]]


def test_gaps_and_files_on_disk(tmp_path: Path) -> None:
    frame = sales(50).with_columns(orders=pl.when(pl.col("ds") != 7).then("orders"))
    frame.write_csv(tmp_path / "sales.csv")
    rows = torch.arange(50)
    in_memory: Any = TableSeries(frame, **ORDERS).load().covariates_at(rows)
    assert in_memory[:9, 1].tolist() == [0, *[1] * 7, 0]
    scratch = TableSeries(tmp_path / "sales.csv", **ORDERS, scratch_folder=str(tmp_path)).load()
    torch.testing.assert_close(scratch.covariates_at(rows), in_memory, equal_nan=True)


def test_the_command_forecasts_without_rows_ahead(rnn_lightning: Callable[..., None]) -> None:
    sales(200).write_csv("sales.csv")
    options = ["--data.series.past_covariate_columns=orders", "--model.cell=gru", "--data.horizon=3"]
    rnn_lightning("fit", "sales.csv", *options, "--trainer.max_epochs=1", "--data.num_batches_per_epoch=5")
    rnn_lightning("predict", "sales.csv", "--output=out.csv")
    table = pl.read_csv("out.csv")
    assert table.columns == ["ds", "y", "y-lo-80", "y-hi-80"]
    assert table["y"].is_finite().all()
    assert len(table) == 3

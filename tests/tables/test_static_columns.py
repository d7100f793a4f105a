"""Columns with one value for each series tell groups of series apart."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from rnn_lightning import Forecaster, TableDataModule, TableSeries, forecast_frame
from rnn_lightning.errors import InputError
from rnn_lightning.tables.fit_frame import quiet_trainer

NUM_STEPS, HORIZON = 80, 8
GROUPED: dict[str, Any] = {"static_columns": "group"}


def pulses(num_series: int = 16) -> pl.DataFrame:
    """Series with a pulse every 8 steps; 3 steps later those of group a rise, and those of b fall."""
    rng, frames = np.random.default_rng(0), []
    for index in range(num_series):
        steps, group = np.arange(NUM_STEPS), "ab"[index % 2]
        pulse = ((steps + rng.integers(8)) % 8 == 0).astype(float)
        values = pulse + (2 if group == "a" else -2) * np.roll(pulse, 3) + 0.05 * rng.normal(size=NUM_STEPS)
        ids = {"unique_id": [f"s{index}"] * NUM_STEPS, "ds": steps, "y": values}
        frames.append(pl.DataFrame({**ids, "group": [group] * NUM_STEPS, "size": [index % 4] * NUM_STEPS}))
    return pl.concat(frames)


def fitted(frame: pl.DataFrame, **options: Any) -> tuple[Forecaster, Any]:
    """Return a network that sees 4 steps, which do not show the group."""
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"context_length": 4, "scored_length": 8, "horizon": HORIZON, "season": "none"}
    data = TableDataModule(TableSeries(frame, **options), **sizes, test_fraction=0, num_batches_per_epoch=60)
    network = Forecaster(cell="gru", hidden_size=16, transforms=["standardize"], learning_rate=0.02)
    trainer = quiet_trainer(network, [], max_epochs=4)
    trainer.fit(network, data)
    return network, trainer


@pytest.fixture(scope="module")
def known() -> pl.DataFrame:
    return pulses().filter(pl.col("ds") < NUM_STEPS - HORIZON)


@pytest.fixture(scope="module")
def grouped(known: pl.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> tuple[Forecaster, Path]:
    path = tmp_path_factory.mktemp("static") / "grouped.ckpt"
    network, trainer = fitted(known, **GROUPED)
    trainer.save_checkpoint(path)
    return network, path


def error(network: Forecaster, known: pl.DataFrame) -> float:
    truth = pulses().filter(pl.col("ds") >= NUM_STEPS - HORIZON)["y"]
    return float((forecast_frame(network, known)["y"] - truth).abs().mean())  # type: ignore[arg-type]


def test_a_category_tells_groups_of_series_apart(known: pl.DataFrame, grouped: tuple[Any, Path]) -> None:
    without, _ = fitted(known)
    with_group, alone = error(grouped[0], known), error(without, known)
    assert with_group < 0.6 * alone, (with_group, alone)


def test_categories_are_one_input_each_and_numbers_one(known: pl.DataFrame) -> None:
    series = TableSeries(known, static_columns=["size", "group"])
    assert series.num_covariates == 3
    assert series.static_categories == {"group": ["a", "b"]}
    data = series.load()
    expected = [[0, 1, 0], [1, 0, 1], [2, 1, 0], [3, 0, 1]]
    assert data.static is not None
    assert data.static[:4].tolist() == expected
    rows = data.offsets[:4]
    past: Any = data.covariates_at(rows[:, None])
    ahead: Any = data.future_covariates(torch.arange(4), 2)
    assert past[:, 0].tolist() == ahead[:, 1].tolist() == expected
    kept: Any = data.keep([1, 3], "").covariates_at(rows[[1, 3]])
    assert kept.tolist() == [expected[1], expected[3]]
    lines = TableDataModule(series).describe()
    assert "static size, group" in lines


def test_text_and_missing_cells_of_a_csv_file(tmp_path: Path) -> None:
    Path(tmp_path, "a.csv").write_text(
        "unique_id,ds,y,area,kind\n1,1,2,10,x\n1,2,3,10,x\n2,1,4,,\n2,2,5,NA,\n3,1,1,30,z\n3,2,1,30,z\n"
    )
    series = TableSeries(tmp_path / "a.csv", static_columns=["area", "kind"])
    data = series.load()
    assert series.static_categories == {"kind": ["x", "z"]}
    assert data.static is not None
    assert data.static.nan_to_num(-1).tolist() == [[10, 1, 0], [-1, 0.5, 0.5], [30, 0, 1]]
    assert any("'kind' has nothing in 1 series, unknown to the fit" in note for note in data.notes)


def test_numbers_with_a_decimal_comma_are_numbers(tmp_path: Path) -> None:
    """Each was a category of its own."""
    path = tmp_path / "sizes.csv"
    path.write_text("unique_id;ds;y;size\na;1;1,5;81,8\na;2;2,5;81,8\nb;1;3,5;76,1\nb;2;1,5;76,1\n")
    data = TableSeries(path, static_columns="size").load()
    assert data.static is not None
    assert data.static.flatten().tolist() == pytest.approx([81.8, 76.1])


def test_a_checkpoint_knows_the_categories(known: pl.DataFrame, grouped: tuple[Any, Path]) -> None:
    expected = forecast_frame(grouped[0], known)
    of_b = known.filter(pl.col("group") == "b")
    table = forecast_frame(grouped[1], of_b)
    wanted = expected.filter(pl.col("unique_id").is_in(of_b["unique_id"].unique().to_list()))
    np.testing.assert_allclose(table["y"], wanted["y"], rtol=1e-5)
    new = forecast_frame(grouped[1], of_b.with_columns(group=pl.lit("c")))
    assert not np.allclose(new["y"], wanted["y"], atol=0.1)
    assert new["y"].is_finite().all()


def test_the_command_keeps_the_categories_of_its_fit(
    rnn_lightning: Callable[..., None], known: pl.DataFrame, capsys: pytest.CaptureFixture[str]
) -> None:
    known.write_csv("pulses.csv")
    known.filter(pl.col("group") == "b").write_csv("b.csv")
    known.with_columns(group=pl.lit("c")).write_csv("c.csv")
    options = ["--data.series.static_columns=[group]", "--trainer.max_epochs=1", "--model.cell=gru"]
    sizes = ["--data.context_length=4", "--data.horizon=8", "--data.num_batches_per_epoch=5"]
    rnn_lightning("fit", "pulses.csv", *options, *sizes)
    for name in ("pulses", "b", "c"):
        rnn_lightning("predict", f"{name}.csv", "--experiment=pulses", f"--output=out_{name}.csv")
    whole, part = pl.read_csv("out_pulses.csv"), pl.read_csv("out_b.csv")
    wanted = whole.filter(pl.col("unique_id").is_in(part["unique_id"].unique().to_list()))
    np.testing.assert_allclose(part["y"], wanted["y"], rtol=1e-5)
    assert "'group' has 'c' in 16 series, unknown to the fit" in capsys.readouterr().out


def test_what_is_no_static_column_is_refused_in_one_line(known: pl.DataFrame) -> None:
    with pytest.raises(InputError, match="`static_columns`: 'ds2' has '0' and '1' in series 's0': give one"):
        TableSeries(known.with_columns(ds2="ds"), static_columns="ds2").load()
    with pytest.raises(
        InputError, match=r"has no column 'region': .* name the right one by `static_columns`"
    ):
        TableSeries(known, static_columns="region")
    text = known.with_columns(size=pl.lit("large"))
    with pytest.raises(InputError, match="`static_columns`: 'size' holds text, and held numbers in the fit"):
        TableSeries(text, static_columns="size", static_categories={}).load()
    many = pl.DataFrame({"unique_id": range(2000), "ds": 1, "y": 1.0}).with_columns(
        name=pl.format("n{}", "unique_id")
    )
    with pytest.raises(InputError, match="'name' has 2,000 categories, and at most 1,000 can be inputs"):
        TableSeries(many, static_columns="name")

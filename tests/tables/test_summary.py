import json
import time
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import numpy as np
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger

from rnn_lightning import Forecaster, RandomSeries, SeriesData, TableDataModule
from rnn_lightning.cli.callbacks import DataSummary
from rnn_lightning.data.series import TimeIndex
from rnn_lightning.tables.calendar import CalendarIndex
from rnn_lightning.tables.storage import FileArray
from rnn_lightning.tables.summary import as_text, remarks, summarize
from rnn_lightning.tables.table_data import TableData, count_unknown

TRAIN = {"series": 3, "steps": 9, "windows": 4, "window_length": 3, "padded_series": 0, "unused_series": 0}
HELD_OUT = {"series": 3, "steps": 3, "forecasts": 3, "horizon": 1}


def example(**settings: Any) -> TableData:
    """Three series, of 4, 2 and 6 steps and two rows of covariates after each; five values are missing."""
    values = torch.arange(36.0).view(18, 2)
    for first in (4, 8, 16):
        values[first : first + 2] = torch.nan
    values[1, 0] = values[6, 1] = values[12:15, 1] = torch.nan
    made: dict[str, Any] = {
        "values": values,
        "offsets": torch.tensor([0, 6, 10, 18]),
        "ids": ["a", "b", "long"],
        "features": ["y", "z"],
        "times": CalendarIndex(
            [date(2024, 1, 31), date(2023, 12, 31), date(2024, 1, 31)], ["1me", "1me", "1d"]
        ),
        "lengths": torch.tensor([4, 2, 6]),
        "covariates": torch.zeros(18, 1),
        "covariate_names": ["price"],
        "calendar": torch.zeros(18, 1, dtype=torch.uint8),
        "calendar_names": ["month"],
        "notes": ["Days were summed to months."],
        "left_out": {"c": "no known value", "d": "one step"},
    }
    return TableData(**{**made, **settings})


def test_the_numbers() -> None:
    numbers = summarize(example(), {"train": TRAIN, "val": HELD_OUT}, horizon=24)
    assert numbers == json.loads(json.dumps(numbers))
    assert numbers["series"] == 3
    assert numbers["steps"] == 12
    assert numbers["length"] == {
        "shortest": 2,
        "median": 4.0,
        "longest": 6,
        "num_shortest": 1,
        "shortest_ids": ["b"],
    }
    assert (numbers["features"], numbers["covariates"], numbers["calendar"]) == (
        ["y", "z"],
        ["price"],
        ["month"],
    )
    assert numbers["known_ahead"] == {"shortest": 2, "longest": 2}
    assert numbers["time"] == {
        "column": "ds",
        "frequencies": [{"frequency": "1me", "series": 2}, {"frequency": "1d", "series": 1}],
        "first": "2023-12-31",
        "last": "2024-04-30",
    }
    assert numbers["missing"] == {
        "values": 5,
        "percent": 20.8,
        "series": 3,
        "by_feature": {"y": {"values": 1, "percent": 8.33}, "z": {"values": 4, "percent": 33.3}},
        "worst": [
            {"id": "b", "values": 1, "percent": 25.0},
            {"id": "long", "values": 3, "percent": 25.0},
            {"id": "a", "values": 1, "percent": 12.5},
        ],
    }
    assert numbers["splits"] == {"train": TRAIN, "val": HELD_OUT}
    assert numbers["left_out"] == {"c": "no known value", "d": "one step"}
    assert numbers["notes"] == ["Days were summed to months."]


def test_the_text() -> None:
    train = {**TRAIN, "padded_series": 1, "unused_series": 2}
    splits = {"train": train, "val": {**HELD_OUT, "forecasts": 1}, "test": {**HELD_OUT, "horizon": 24}}
    expected = [
        "data      3 series, 12 steps; lengths 2 ('b') to 6, median 4",
        "columns   features y, z; covariates price (known 2 steps ahead); calendar month",
        "time      ds from 2023-12-31 to 2024-04-30, every 1me (2 series), 1d (1 series)",
        "season    7 steps (2 series), none (1 series)",
        "missing   5 values (20.8%) in 3 series; by feature z 4 (33.3%), y 1 (8.33%); "
        "most in 'b' 1 (25%), 'long' 3 (25%), 'a' 1 (12.5%)",
        "train     3 series, 9 steps, 4 windows of 3 steps; 1 series shorter than a window, padded; "
        "2 series unused",
        "val       3 series, 3 steps, 1 forecast of 1 step; no held-out part is as long as `horizon` 24",
        "test      3 series, 3 steps, 3 forecasts of 24 steps",
        "left out  2 series: 'c' (no known value), 'd' (one step)",
        "note      Days were summed to months.",
        "note      predict needs covariates 24 steps ahead, in rows after the last value; no series has them "
        "yet",
    ]
    data = replace(example(), traits={"season": torch.tensor([7, 1, 7])})
    text = as_text(summarize(data, splits, horizon=24))
    assert text.splitlines() == expected


def test_an_empty_split_has_a_plain_line() -> None:
    data = example(covariates=None, covariate_names=())
    nothing = {"series": 0, "steps": 0, "forecasts": 0, "horizon": 1}
    assert as_text(summarize(data, {"test": nothing}, horizon=1)).splitlines()[5] == (
        "test      empty: raise `test_fraction` to hold values out"
    )
    too_short = {"series": 1, "steps": 3, "forecasts": 0, "horizon": 1}
    assert as_text(summarize(data, {"test": too_short}, horizon=1)).splitlines()[5] == (
        "test      1 series, 3 steps, too few for a forecast after a context"
    )


def test_the_text_of_plain_data_is_short() -> None:
    assert (
        as_text(summarize(SeriesData.from_equal(torch.zeros(1, 400, 1), frequency=0.2), {"train": TRAIN}))
        == """\
data      1 series, 400 steps
columns   features y
time      ds from 0.0 to 79.8, every 0.2
season    none
missing   no values
train     3 series, 9 steps, 4 windows of 3 steps"""
    )
    text = as_text(summarize(SeriesData.from_equal(torch.zeros(1200, 4, 30)), {}))
    assert "1,200 series, 4,800 steps; 4 steps each" in text
    assert "features y0, y1, y2, y3, y4, y5, y6, y7 and 22 others" in text
    assert max(map(len, text.splitlines())) < 125


@pytest.mark.parametrize(
    ("known", "percent"),
    [(0, "100%"), (1, "99.9%"), (10, "99.5%"), (40, "98%"), (1999, "0.05%"), (1750, "12.5%")],
)
def test_percents_are_plain_and_100_is_all(known: int, percent: str) -> None:
    values = torch.full((1, 2000, 2), torch.nan)
    values[:, :known, 1] = values[..., 0] = 1
    data = SeriesData.from_equal(values)
    assert f"y1 {2000 - known:,} ({percent})" in as_text(summarize(data, {}))


def test_all_but_one_of_many_is_not_100_percent() -> None:
    values = torch.full((1, 100_000, 1), torch.nan)
    values[0, -1] = 1
    numbers = summarize(SeriesData.from_equal(values), {})
    assert numbers["missing"]["percent"] == 99.9
    assert "99,999 values (99.9%)" in as_text(numbers)


def test_frequencies_that_differ_by_rounding_are_one() -> None:
    times = TimeIndex([0.0] * 3, [0.2, 0.1 + 0.1 + 1e-16, 5])
    numbers = summarize(example(times=times), {})
    assert numbers["time"]["frequencies"] == [
        {"frequency": 0.2, "series": 2},
        {"frequency": 5, "series": 1},
    ]
    assert numbers["time"]["last"] == 25.0


def test_many_series_are_counted_and_a_few_are_named() -> None:
    num = 1000
    data = TableData(
        values=torch.zeros(num + 5, 1),
        offsets=torch.cat([torch.arange(num), torch.tensor([num + 5])]),
        ids=[f"s{i}" for i in range(num)],
        features=["y"],
        times=TimeIndex([0] * num, [1] * num),
        left_out={f"t{i}": "too short." for i in range(300)},
    )
    text = as_text(summarize(data, {}))
    assert "lengths 1 ('s0', 's1', 's2', 's3', 's4' and 994 others) to 6, median 1" in text
    assert "left out  300 series: 't0', 't1', 't2', 't3', 't4' (too short) and 295 others" in text
    assert len(summarize(data, {})["left_out"]) == 300
    assert remarks(data) == ["Left out: 300 series: 't0', 't1', 't2', 't3', 't4' (too short) and 295 others"]


@pytest.mark.parametrize("num_features", [1, 3])
def test_missing_values_are_counted_as_one_series_after_another(num_features: int) -> None:
    """Of more rows than are counted at once, a million values, in series of no row, one and very many."""
    known = torch.tensor([0, 700_000, 1, 0, 500_000, 3, 400_000, 0])
    rows = known + torch.tensor([0, 5, 2, 1, 0, 0, 3, 4])
    values = torch.rand(int(rows.sum()), num_features, generator=torch.Generator().manual_seed(0))
    values[values < 0.4] = torch.nan
    data = TableData(
        values=values,
        offsets=torch.cat([torch.zeros(1, dtype=torch.long), rows.cumsum(0)]),
        ids=[str(i) for i in range(len(rows))],
        features=[f"y{i}" for i in range(num_features)],
        times=TimeIndex([0] * len(rows), [1] * len(rows)),
        lengths=known,
    )
    by_series, by_feature = count_unknown(data.values, data.offsets, data.ends)
    each = [data.series(index).isnan() for index in range(len(rows))]
    assert by_series.tolist() == [int(gaps.sum()) for gaps in each]
    assert by_feature.tolist() == torch.cat(each).sum(0).tolist()


def test_values_in_a_file_are_counted_as_those_in_memory(tmp_path: Path) -> None:
    data = example()
    np.asarray(data.values).tofile(tmp_path / "values")
    filed = example(values=FileArray(tmp_path / "values", "float32", (18, 2)))
    assert summarize(filed, {}) == summarize(data, {})


def test_ten_million_values_take_less_than_a_second() -> None:
    data = SeriesData.from_equal(torch.rand(10_000, 500, 2))
    data.values[data.values < 0.1] = torch.nan
    start = time.process_time()
    numbers = summarize(data, {})
    assert time.process_time() - start < 1
    assert numbers["missing"]["percent"] == pytest.approx(10, abs=0.1)


def fit(folder: Path, **options: Any) -> dict[str, Any]:
    """Fit for a step; returns the numbers that should have been printed."""
    trainer = L.Trainer(
        accelerator="cpu",
        max_steps=1,
        limit_val_batches=0,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        log_every_n_steps=1,
        default_root_dir=folder,
        callbacks=[DataSummary(as_text)],
        **options,
    )
    datamodule = TableDataModule(RandomSeries(2, 60), context_length=3, scored_length=3)
    trainer.fit(Forecaster(hidden_size=2), datamodule)
    return datamodule.summary()


def test_a_fit_prints_the_summary_and_keeps_it_with_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = fit(tmp_path, logger=CSVLogger(tmp_path, name="a", version="fit_0"))
    assert expected["splits"]["train"]["steps"] == 96
    assert json.loads((tmp_path / "a/fit_0/data.json").read_text()) == expected
    assert as_text(expected) in capsys.readouterr().out


def test_without_a_logger_the_summary_is_only_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fit(tmp_path, logger=False)
    assert "data      2 series, 120 steps; 60 steps each" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


def test_only_the_first_process_prints(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(L.Trainer, "is_global_zero", property(lambda _: False))
    fit(tmp_path, logger=CSVLogger(tmp_path, name="a", version="fit_0"))
    assert capsys.readouterr().out == ""
    assert not (tmp_path / "a/fit_0/data.json").exists()

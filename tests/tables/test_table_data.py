import mmap
import os
import subprocess
import sys
from datetime import date
from pathlib import Path

import polars as pl
import pytest
import torch

from rnn_lightning import SeriesData, TableSeries, files
from rnn_lightning.tables import storage
from rnn_lightning.tables.calendar import stamp_series
from rnn_lightning.tables.storage import Buffer, FileArray
from rnn_lightning.tables.table_data import as_table_data


def test_the_options_of_a_table_need_neither_torch_nor_polars() -> None:
    code = "import sys; from rnn_lightning.tables.options import TableOptions; TableOptions(frequency='1h'); "
    code += "print({'torch', 'polars', 'lightning'} & {*sys.modules})"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"


def test_series_of_other_sources_get_the_usual_names_of_columns() -> None:
    for number in (1, 2):
        data = SeriesData.from_equal(torch.rand(number, 3, 1))
        table = as_table_data(data)
        assert (table.id_column, table.time_column) == ("unique_id", "ds")
        assert (table.notes, table.left_out) == ((), {})
        assert table.values is data.values
        assert as_table_data(table) is table


def test_inputs_of_the_past_and_the_future_are_covariates_then_the_calendar() -> None:
    days = pl.date_range(date(2024, 1, 29), date(2024, 2, 2), "1d", eager=True)
    table = pl.DataFrame({"ds": days, "y": [1.0, 2, 3, None, None], "x": [10.0, 20, 30, 40, 50]})
    data = TableSeries(table, covariate_columns="x", calendar_features=["month", "weekday"]).load()
    past, future = data.covariates_at(torch.arange(3)), data.future_covariates(torch.tensor([0]), 2)
    assert past is not None
    assert future is not None
    for rows, numbers, months, weekdays in (
        (past, [10, 20, 30], [0, 0, 0], [0, 1, 2]),
        (future[0], [40, 50], [1, 1], [3, 4]),
    ):
        assert rows[:, 0].tolist() == numbers
        assert rows[:, 1:13].argmax(1).tolist() == months
        assert rows[:, 13:].argmax(1).tolist() == weekdays
        assert rows[:, 1:].sum(1).tolist() == [2] * len(rows)
    plain = TableSeries(table).load()
    assert plain.covariates_at(torch.arange(3)) is None
    assert plain.future_covariates(torch.tensor([0]), 2) is None


@pytest.mark.parametrize(
    "stamps", [[1, 2, 10, 12, 20, 23], [date(2024, 1, day) for day in (1, 2, 10, 12, 20, 23)]]
)
def test_series_that_are_kept_have_their_own_values_and_stamps(stamps: list[object]) -> None:
    table = pl.DataFrame({"unique_id": list("aabbcc"), "ds": stamps, "y": [1.0, 2, 3, 4, 5, 6]})
    data = TableSeries(table).load()
    kept = data.keep([0, 2], "b is gone")
    assert kept.ids == ["a", "c"]
    assert kept.notes[-1] == "b is gone"
    assert kept.series(1)[:, 0].tolist() == [5, 6]
    assert stamp_series(kept.times, [1], [0], 2).to_list() == stamps[4:]


def test_scratch_files_work_where_the_system_has_no_locks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "fcntl", None)
    monkeypatch.delattr(os, "posix_fallocate")
    monkeypatch.delattr(os, "sysconf")
    monkeypatch.delattr(mmap, "MADV_DONTNEED")
    storage.require_memory(2**60, "numbers of a system that does not tell its memory")
    buffer = Buffer((2, 1), "float32", tmp_path)
    buffer.array[:] = 1
    buffer.release()
    array = buffer.finish()
    assert isinstance(array, FileArray)
    assert array[:].tolist() == [[1], [1]]

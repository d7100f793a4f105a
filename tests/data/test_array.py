import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rnn_lightning.data.array import ArraySeries
from rnn_lightning.data.datamodule import SequenceDataModule
from rnn_lightning.data.series import SeriesData
from rnn_lightning.errors import InputError

nan = math.nan


def same(one: SeriesData, other: SeriesData) -> None:
    assert (one.ids, one.features) == (other.ids, other.features)
    assert (one.times.starts, one.times.frequencies) == (other.times.starts, other.times.frequencies)
    for name in ("values", "offsets", "lengths"):
        pair = getattr(one, name), getattr(other, name)
        torch.testing.assert_close(*pair, rtol=0, atol=0, equal_nan=True)


def array_file(tmp_path: Path, array: np.ndarray) -> str:
    np.save(tmp_path / "a.npy", array)
    return str(tmp_path / "a.npy")


@pytest.mark.parametrize("dtype", ["float32", "float64", "int16", "uint8", "uint16", ">f4", "bool"])
@pytest.mark.parametrize("shape", [(12,), (6, 2), (2, 3, 2)])
@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_of_files_and_memory_are_the_same(
    tmp_path: Path, dtype: str, shape: tuple[int, ...], order: Any
) -> None:
    array = np.asarray(np.arange(12).reshape(shape), dtype=dtype, order=order)
    memory, file = ArraySeries(array), ArraySeries(array_file(tmp_path, array))
    assert memory.num_features == file.num_features == (1 if len(shape) == 1 else 2)
    same(memory.load(), file.load())
    data = file.load()
    data.validate()
    assert data.num_series == (2 if len(shape) == 3 else 1)
    assert data.values.flatten().tolist() == array.astype("float32").flatten().tolist()
    is_mapped = dtype in ("float32", "float64", "int16") and (order == "C" or len(shape) == 1)
    assert data.values.dtype == (getattr(torch, dtype) if is_mapped else torch.float32)


def test_arrays_that_end_in_nan_are_shorter() -> None:
    array = np.full((2, 5, 2), nan, dtype=np.float32)
    array[0, :3] = array[1, :, 0] = 1
    assert ArraySeries(array).load().lengths.tolist() == [3, 5]
    array[1] = nan
    with pytest.raises(InputError, match="series 1 of the array has no known value"):
        ArraySeries(array).load()


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((2, 2, 2, 2)), r"has the shape \(2, 2, 2, 2\): it must be"),
        (np.zeros((0, 2)), r"has the shape \(0, 2\)"),
        (np.array(["a"]), "holds <U1: it must hold real numbers"),
        (np.zeros(3, complex), "holds complex128"),
    ],
)
def test_arrays_that_cannot_be_used(tmp_path: Path, array: np.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=message):
        ArraySeries(array_file(tmp_path, array)).load()


def test_arrays_that_must_not_be_written_to_are_copied() -> None:
    array = np.arange(5.0)
    array.setflags(write=False)
    assert ArraySeries(array).load().values.flatten().tolist() == [0, 1, 2, 3, 4]


def test_lists_are_arrays() -> None:
    data = ArraySeries([1, 2, 3]).load()
    assert data.values.tolist() == [[1], [2], [3]]
    assert ArraySeries([[1, 2], [3, 4]]).num_features == 2
    with pytest.raises(InputError, match=r"the series are no array .*: let shorter series end in NaN"):
        ArraySeries([[1], [2, 3]])
    with pytest.raises(InputError, match="the array holds object"):
        ArraySeries([1, None]).load()


@pytest.mark.parametrize("value", [math.inf, -math.inf, 1e39])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_infinite_numbers_of_arrays_are_refused(value: float, dtype: str) -> None:
    with np.errstate(over="ignore"):
        array = np.array([[[0.0], [1.0], [2.0]], [[0.0], [1.0], [value]]]).astype(dtype)
    for number in (1, 0):
        message = rf"series '{number}' has the value .* in 'y' at 2: every value must be a finite number"
        with pytest.raises(InputError, match=message):
            SequenceDataModule(array[1 - number :]).setup("predict")


def test_array_files_that_cannot_be_read(tmp_path: Path) -> None:
    missing, text = ArraySeries(str(tmp_path / "nothing.npy")), tmp_path / "b.npy"
    text.write_text("text")
    assert missing.num_features == 1
    with pytest.raises(InputError, match="no such file"):
        missing.load()
    with pytest.raises(InputError, match=r"not a readable \.npy file"):
        ArraySeries(text).load()


def test_an_array_file_costs_no_memory(tmp_path: Path) -> None:
    def resident() -> int:
        status = Path("/proc/self/status").read_text().splitlines()
        return int(next(line for line in status if "VmRSS" in line).split()[1])

    path = tmp_path / "large.npy"
    np.lib.format.open_memmap(path, "w+", "float32", (2**28, 1)).flush()  # 1 GiB, sparse on disk
    before = resident()
    data = ArraySeries(str(path)).load()
    assert data.values.shape == (2**28, 1)
    assert resident() - before < 2**16  # kB


def test_a_split_that_does_not_exist_is_refused() -> None:
    with pytest.raises(InputError, match="`split_by` must be time or series, got 'serie'"):
        SequenceDataModule(np.arange(30.0), split_by="serie")  # type: ignore[arg-type]


@pytest.mark.parametrize("shape", [(30,), (30, 1), (1, 30, 1)])
def test_series_of_a_single_recording_need_no_more_axes(shape: tuple[int, ...]) -> None:
    assert SeriesData.from_equal(np.zeros(shape)).values.shape == (30, 1)

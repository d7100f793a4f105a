import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from equal_series import same

from rnn_lightning.data.array import ArraySeries
from rnn_lightning.errors import InputError
from rnn_lightning.tables.storage import FileArray

nan = math.nan


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
    assert data.values[:].dtype == torch.float32
    assert data.values[:].flatten().tolist() == array.astype("float32").flatten().tolist()
    assert isinstance(data.values, FileArray) == (
        dtype in ("float32", "float64", "int16") and (order == "C" or len(shape) == 1)
    )


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
        (1e9 + np.sin(np.arange(50.0)), r"a.npy: column '0' reaches 1e\+09"),
    ],
)
def test_arrays_that_cannot_be_used(tmp_path: Path, array: np.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=message):
        ArraySeries(array_file(tmp_path, array)).load()


def test_lists_are_arrays() -> None:
    data = ArraySeries([1, 2, 3]).load()
    assert data.values.tolist() == [[1], [2], [3]]
    assert ArraySeries([[1, 2], [3, 4]]).num_features == 2
    with pytest.raises(InputError, match=r"`path` is no array"):
        ArraySeries([[1], [2, 3]])
    with pytest.raises(InputError, match="the array holds object"):
        ArraySeries([1, None]).load()


@pytest.mark.parametrize("value", [math.inf, -math.inf, 1e39])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_infinite_numbers_of_arrays_are_refused(value: float, dtype: str) -> None:
    with np.errstate(over="ignore"):
        array = np.array([[[0.0], [1.0], [2.0]], [[0.0], [1.0], [value]]]).astype(dtype)
    with pytest.raises(
        InputError, match=r"series '1' has the value -?inf in 'y' at step 2 .*: every value must be a finite"
    ):
        ArraySeries(array).load()
    if math.isinf(value):
        with pytest.raises(InputError, match="series '0' has the value"):
            ArraySeries(array[1:]).load()


def test_array_files_that_cannot_be_read(tmp_path: Path) -> None:
    missing, text = ArraySeries(str(tmp_path / "nothing.npy")), tmp_path / "b.npy"
    text.write_text("text")
    assert missing.num_features == 1
    with pytest.raises(InputError, match="no such file"):
        missing.load()
    with pytest.raises(InputError, match=r"not a readable \.npy file"):
        ArraySeries(text).load()


def test_an_array_file_costs_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "large.npy"
    np.lib.format.open_memmap(path, "w+", "float32", (2**28, 1)).flush()  # 1 GiB, sparse on disk
    data = ArraySeries(str(path)).load()
    resident = int(
        next(line for line in Path("/proc/self/status").read_text().splitlines() if "VmRSS" in line).split()[
            1
        ]
    )
    assert data.values.shape == (2**28, 1)
    assert resident < 2**20

"""The benchmark that waits for a GPU runs on a CPU."""

import os
import runpy
import sys
from pathlib import Path
from unittest import mock

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.mark.filterwarnings("ignore")
def test_the_benchmark_of_gpus_runs_on_the_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.chdir(tmp_path)
    small = ["--sizes", "4", "--batches", "2", "--repeats", "1", "--output", "gpu.md"]
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--device", "cpu", *small])
    with mock.patch.dict(os.environ):  # DDP makes this process the first one of a launcher
        runpy.run_path(str(BENCHMARKS / "gpu.py"), run_name="__main__")
    text = Path("gpu.md").read_text()
    assert "| 4 | 2 | generation |" in text
    assert "DDP by gloo on one device ends with an error of" in text

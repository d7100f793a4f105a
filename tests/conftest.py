import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from rnn_lightning.native import library

ROOT = Path(__file__).parent.parent


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _no_launcher() -> Iterator[None]:
    """Fail where a test leaves behind the rank of a launcher, for then later ones start no processes."""
    yield
    left = [name for name in ("LOCAL_RANK", "NODE_RANK", "RANK", "WORLD_SIZE") if os.environ.pop(name, "")]
    assert not left


@pytest.fixture(scope="module", params=["native", "torch"])
def path(request: pytest.FixtureRequest) -> Iterator[None]:
    """Run the tests of a module by the native kernel and by the operators of PyTorch."""
    if request.param == "native" and library.find() is None:
        pytest.skip("the native kernel was not built")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(library.SWITCH, "1" if request.param == "native" else "0")
        library.load.cache_clear()
        yield
    library.load.cache_clear()


@pytest.fixture(params=[0, 1, 2], ids=["baseline", "AVX2", "AVX-512"])
def instruction_set(request: pytest.FixtureRequest) -> Iterator[None]:
    """Run a test of the native kernel on every instruction set of the machine."""
    kernel = library.find()
    assert kernel is not None
    chosen = kernel.rnn_instruction_set(request.param)
    best = kernel.rnn_instruction_set(-1)
    if chosen == best and request.param == 2 and best != b"AVX-512":
        pytest.skip("the machine does not have it")
    kernel.rnn_instruction_set(request.param)
    yield
    kernel.rnn_instruction_set(-1)


@pytest.fixture
def rnn_lightning(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, request: pytest.FixtureRequest
) -> Callable[..., None]:
    """The command line, in a folder of its own that has the project's configs and data.

    Pictures are made, but rendered only for tests that are marked so: it takes half of a forecast.
    """
    if request.node.get_closest_marker("renders") is None:
        monkeypatch.setattr(
            "matplotlib.backends.backend_agg.FigureCanvasAgg.print_png", lambda *_, **__: None
        )
    for name in ("configs", "data"):
        if not (tmp_path / name).exists():
            shutil.copytree(ROOT / name, tmp_path / name)  # Windows has no links for everyone
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["rnn-lightning"])

    def call(*args: str) -> None:
        from rnn_lightning.cli.command_line import run

        run(args)

    return call

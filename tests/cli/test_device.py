"""The CPU is the default where it is faster than the GPU that is there; what is given is obeyed."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from rnn_lightning import PretrainedForecaster, RecurrentNetwork
from rnn_lightning.cli.device import choose_accelerator


def chosen(network: Any = None, **given: Any) -> tuple[str, str]:
    settings = {"accelerator": "auto", "devices": "auto", "strategy": "auto"} | given
    return choose_accelerator(SimpleNamespace(**settings), network or RecurrentNetwork())


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)


@pytest.mark.usefixtures("cuda")
def test_a_gpu_is_left_alone_by_small_networks_and_the_line_says_so() -> None:
    for network in (RecurrentNetwork(hidden_size=255), PretrainedForecaster().network):
        accelerator, reason = chosen(network)
        assert accelerator == "cpu"
        assert "below 256 hidden units and batches of 1,000" in reason


@pytest.mark.usefixtures("cuda")
def test_a_gpu_is_taken_by_large_networks_or_batches_and_by_networks_that_nobody_knows() -> None:
    settings = SimpleNamespace(accelerator="auto", devices="auto", strategy="auto")
    assert choose_accelerator(settings, RecurrentNetwork(), batch_size=1000) == ("auto", "")
    assert chosen(RecurrentNetwork(hidden_size=256)) == ("auto", "")
    assert chosen(nn.Linear(1, 1)) == ("auto", "")


@pytest.mark.usefixtures("cuda")
@pytest.mark.parametrize(("name", "value"), [("accelerator", "gpu"), ("devices", 1), ("strategy", "ddp")])
def test_what_is_given_is_obeyed(name: str, value: Any) -> None:
    assert chosen(**{name: value}) == (value if name == "accelerator" else "auto", "")


def test_a_mac_computes_on_its_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    accelerator, reason = chosen(RecurrentNetwork(hidden_size=512))
    assert (accelerator, "Mac" in reason) == ("cpu", True)
    assert chosen(accelerator="mps") == ("mps", "")


def test_nothing_is_said_without_a_gpu() -> None:
    assert chosen() == ("auto", "")


@pytest.mark.usefixtures("cuda")
def test_the_command_says_it_once(
    rnn_lightning: Callable[..., None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rnn_lightning("fit", "--trainer.max_epochs=1", "--data.num_batches_per_epoch=2")
    reason = "faster below 256 hidden units and batches of 1,000"
    line = f"Device: the CPU ({reason}); set --trainer.accelerator gpu for the GPU.\n"
    assert capsys.readouterr().out.count(line) == 1
    assert (tmp_path / "runs/default/fit_0/checkpoints/best.ckpt").is_file()

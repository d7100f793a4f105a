"""Every command and every snippet of the README is run, in order; its file tree is compared with the disk."""

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "rnn_lightning"
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, re.DOTALL)
COMMANDS = [line for kind, text in BLOCKS if kind == "bash" for line in text.strip().splitlines()]
SHORT = ["--trainer.max_epochs=1", "--data.num_batches_per_epoch=12", "--trainer.log_every_n_steps=10"]


def test_every_command_runs(rnn_lightning: Callable[..., None], tmp_path: Path) -> None:
    (tmp_path / "sales.csv").write_bytes((ROOT / "data/airpassengers.csv").read_bytes())
    ran = 0
    for kind, text in BLOCKS:
        if kind == "python":
            exec(compile(text.replace("max_epochs=10", "max_epochs=1"), "README.md", "exec"), {})
            ran += 1
        for line in text.strip().splitlines() if kind == "bash" else []:
            program, *args = shlex.split(line, comments=True)
            if program == "python3":  # the two that install: .ci/run runs them
                continue
            assert program == "rnn-lightning", line
            with_help = "--help" in args or any(arg.endswith(".help") for arg in args)
            if with_help:
                with pytest.raises(SystemExit) as ended:
                    rnn_lightning(*args)
                assert ended.value.code == 0
            else:
                rnn_lightning(*args, *(SHORT if args[0] == "fit" else []))
            ran += 1
    assert ran >= 8


def test_the_set_up_commands_are_those_that_ci_runs() -> None:
    installing = [line for line in COMMANDS if line.startswith("python3")]
    assert len(installing) == 2
    assert "rnn-lightning fit --config configs/sine.yaml" in installing[0]
    assert "rnn-lightning predict --config configs/sine.yaml" in installing[0]
    assert "pytest" in installing[1]
    assert "grep '^python3' README.md" in (ROOT / ".ci/run").read_text()


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert target.startswith("https://") or (ROOT / target).exists(), target

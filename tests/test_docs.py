"""Every block of the pages runs, in order; quotations are those of the code; the site is built."""

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

import rnn_lightning as package
from rnn_lightning.cli.shipped import find_configs

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
FENCE = re.compile(r"^```(\w+)(?: title=\"(.*?)\")?\n(.*?)^```$", re.DOTALL | re.MULTILINE)
PAGES = [path for path in (ROOT / "README.md", *sorted(DOCS.glob("*.md"))) if FENCE.search(path.read_text())]
SHORT = ["--trainer.max_epochs=1", "--data.num_batches_per_epoch=12", "--trainer.log_every_n_steps=10"]
NOT_HERE = ("python3 ", "pip ", "python benchmarks/", "rnn-lightning fit --config configs/pretrain.yaml")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
@pytest.mark.renders
@pytest.mark.filterwarnings("ignore")  # of Lightning, on fits of one epoch
def test_every_block_of_a_page_runs(page: Path, rnn_lightning: Callable[..., None], tmp_path: Path) -> None:
    (tmp_path / "sales.csv").write_bytes((ROOT / "data/airpassengers.csv").read_bytes())
    names: dict[str, Any] = {}
    for kind, title, text in FENCE.findall(page.read_text()):
        if kind == "python" and title:
            assert text in (ROOT / title).read_text(), f"{title} has other lines"
        elif kind == "python" and ("import optuna" not in text or find_spec("optuna")):
            source = re.sub(r"(max_epochs|n_trials)=\d+", r"\1=1", text)
            exec(compile(source, page.name, "exec"), names)
        for line in text.strip().splitlines() if kind == "bash" else []:
            if not line.startswith(NOT_HERE):
                run_command(line, rnn_lightning)


def run_command(line: str, rnn_lightning: Callable[..., None]) -> None:
    """Run one command of a page; fits are short."""
    program, *args = find_configs(shlex.split(line, comments=True))
    assert program == "rnn-lightning", line
    if "-h" in args or "--help" in args or any(arg.endswith(".help") for arg in args):
        with pytest.raises(SystemExit) as ended:
            rnn_lightning(*args)
        assert ended.value.code == 0
    else:
        rnn_lightning(*args, *(SHORT if args[0] == "fit" else []))


def test_the_notebook_is_the_tutorial() -> None:
    notebook = json.loads((ROOT / "examples/tutorial.ipynb").read_text(encoding="utf-8"))
    cells = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    blocks = [
        text
        for kind, title, text in FENCE.findall((DOCS / "tutorial.md").read_text())
        if kind == "python" and not title
    ]
    assert [cell.removeprefix("%matplotlib inline\n") for cell in cells] == [text.rstrip() for text in blocks]


def test_every_public_name_is_in_the_reference_with_an_example() -> None:
    text = (DOCS / "reference.md").read_text()
    described = set(re.findall(r"^::: [\w.]+\.(\w+)$", text, re.MULTILINE))
    used = set(re.findall(r"rl\.(\w+)", text)) | {"FlowSeries"}  # which needs an extra
    public = set(package.__all__) - {"__version__"}
    assert public <= described
    assert public <= used


@pytest.mark.skipif(not find_spec("mkdocs"), reason="needs the extra docs")
def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True)
    page = (tmp_path / "commands/index.html").read_text()
    for option in ("data.horizon", "model.cell", "trainer.max_epochs", "forecast.levels", "backtest.levels"):
        assert f"<code>--{option}</code>" in page
    assert "fonts.googleapis" not in (tmp_path / "index.html").read_text()

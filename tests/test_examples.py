"""The notebooks run from the first cell to the last."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))


@pytest.mark.parametrize(
    "path",
    [path for path in NOTEBOOKS if path.stem != "tutorial"],  # whose cells tests/test_docs.py runs
    ids=lambda path: path.stem,
)
def test_a_notebook_runs_where_jupyter_opens_it(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(path.parent)
    notebook = json.loads(path.read_text(encoding="utf-8"))
    names: dict[str, Any] = {}
    said = 0
    for number, cell in enumerate(notebook["cells"]):
        if cell["cell_type"] != "code":
            continue
        source = "".join(line for line in cell["source"] if not line.startswith("%"))
        source = re.sub(r"max_epochs=\d+", "max_epochs=1", source)
        exec(compile(source, f"{path.name}[{number}]", "exec"), names)
        texts = [output["text"] for output in cell["outputs"] if output["output_type"] == "stream"]
        said += sum(len(line) for text in texts for line in text)
    assert names["figure"].axes
    assert said < 3000
    assert path.stat().st_size < 200_000


def test_the_notebook_of_tables_finds_its_data_from_the_repository(monkeypatch: pytest.MonkeyPatch) -> None:
    path = ROOT / "examples/table.ipynb"
    monkeypatch.chdir(ROOT)
    first = next(cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code")
    names: dict[str, Any] = {}
    exec("".join(line for line in first["source"] if not line.startswith("%")), names)
    assert (names["data_folder"] / "airpassengers.csv").is_file()


def test_there_are_notebooks() -> None:
    assert [path.stem for path in NOTEBOOKS] == ["chaos", "sine", "table", "tutorial"]

"""Make examples/tutorial.ipynb and the pictures of docs/tutorial.md: ``python docs/make_notebook.py``.

The page is the source. Its Python blocks are run in order; a block that ends with ``figure`` makes the
picture that follows it.
"""

import base64
import contextlib
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

ROOT = Path(__file__).parent.parent
PAGE, NOTEBOOK = ROOT / "docs/tutorial.md", ROOT / "examples/tutorial.ipynb"
BLOCK = re.compile(r"^```python\n(.*?)^```\n", re.DOTALL | re.MULTILINE)
PICTURE = re.compile(r"^!\[[^]]*\]\(([^)]+)\)\n\n?", re.MULTILINE)


def make_notebook() -> None:
    """Run the page, and write the notebook and the pictures."""
    names: dict[str, Any] = {}
    cells = [run_cell(cell, names) for cell in split_page(PAGE.read_text())]
    kernel = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    notebook = {"cells": cells, "metadata": kernel, "nbformat": 4, "nbformat_minor": 5}
    NOTEBOOK.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n")


def split_page(text: str) -> Iterator[dict[str, Any]]:
    """Yield the cells of the page; a code cell knows the picture that follows it."""
    parts = BLOCK.split(text)
    for number, part in enumerate(parts):
        name = f"cell-{number}"
        if number % 2:
            picture = PICTURE.match(parts[number + 1].lstrip("\n"))
            yield code_cell(name, part, picture[1] if picture else None)
        elif prose := PICTURE.sub("", part).strip():
            prose = re.sub(r"\]\((\w+\.md)\)", r"](../docs/\1)", prose)
            prose = prose.replace('```python title="', "```python\n# ").replace('.py"\n', ".py\n")
            yield {"cell_type": "markdown", "id": name, "metadata": {}, "source": prose.splitlines(True)}


def code_cell(name: str, source: str, picture: str | None) -> dict[str, Any]:
    """Return a code cell without outputs."""
    source = ("%matplotlib inline\n" if name == "cell-1" else "") + source.rstrip()
    cell = {"cell_type": "code", "execution_count": None, "id": name, "metadata": {}, "outputs": []}
    return {**cell, "source": source.splitlines(True), "picture": picture}


def run_cell(cell: dict[str, Any], names: dict[str, Any]) -> dict[str, Any]:
    """Run a code cell and keep what it prints and draws."""
    if cell["cell_type"] == "markdown":
        return cell
    picture, printed = cell.pop("picture"), io.StringIO()
    source = "".join(line for line in cell["source"] if not line.startswith("%"))
    with contextlib.redirect_stdout(printed):
        exec(compile(source, str(PAGE), "exec"), names)
    if text := printed.getvalue():
        lines = text.splitlines(True)
        cell["outputs"].append({"name": "stdout", "output_type": "stream", "text": lines})
    if picture is not None:
        file = io.BytesIO()
        FigureCanvasAgg(names["figure"]).print_png(drawn := io.BytesIO())
        Image.open(drawn).convert("RGB").quantize(48).save(file, "PNG", optimize=True)
        (PAGE.parent / picture).parent.mkdir(exist_ok=True)
        (PAGE.parent / picture).write_bytes(file.getvalue())
        shown = {"image/png": base64.b64encode(file.getvalue()).decode(), "text/plain": ["<Figure>"]}
        cell["outputs"].append(
            {"data": shown, "execution_count": None, "metadata": {}, "output_type": "execute_result"}
        )
    return cell


if __name__ == "__main__":
    make_notebook()

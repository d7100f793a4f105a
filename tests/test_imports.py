import ast
import subprocess
import sys
from pathlib import Path

import pytest

import rnn_lightning

PACKAGE = Path(rnn_lightning.__file__).parent
EDGE = {
    "data/datamodule.py",
    "finetuning.py",
    "forecaster.py",
    "callbacks.py",
    "checkpointing.py",
    "endings.py",
    "output/forecast_writer.py",
    "output/frames.py",
    "output/backtest_writer.py",
    "cli.py",
    "runs.py",
}


def imported_by(path: Path) -> set[str]:
    """Full names of the modules that a file imports anywhere in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def test_only_the_edge_imports_lightning() -> None:
    with_lightning = {
        str(path.relative_to(PACKAGE))
        for path in PACKAGE.rglob("*.py")
        if any(name.split(".")[0] == "lightning" for name in imported_by(path))
    }
    assert with_lightning == EDGE


@pytest.mark.parametrize(
    ("room", "allowed"),
    [
        ("model", {"model", "errors"}),
        ("data", {"data", "errors"}),
        ("output", {"output", "model", "data", "errors", "files", "forecaster"}),
    ],
)
def test_a_room_imports_only_what_lies_below_it(room: str, allowed: set[str]) -> None:
    for path in (PACKAGE / room).rglob("*.py"):
        for name in imported_by(path):
            package, *rest = name.split(".")
            if package == "rnn_lightning" and rest:
                assert rest[0] in allowed, f"{path.relative_to(PACKAGE)} imports {name}"


def test_the_public_names_are_there_and_shown() -> None:
    for name in rnn_lightning.__all__:
        assert getattr(rnn_lightning, name).__name__ == name
    assert set(rnn_lightning.__all__) <= set(dir(rnn_lightning))


def test_class_paths_of_version_0_1_lead_to_the_same_classes() -> None:
    from rnn_lightning import series

    for name in series.__all__:
        assert getattr(series, name) is getattr(rnn_lightning, name)


def test_importing_the_package_alone_imports_nothing_heavy() -> None:
    code = "import rnn_lightning, sys; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_arithmetic_needs_no_polars_or_matplotlib() -> None:
    code = (
        "import sys; from rnn_lightning.model.rollout import rollout; from rnn_lightning import "
        "RecurrentNetwork;from rnn_lightning.data import SineSeries; data = "
        "SineSeries().load();print(rollout(RecurrentNetwork(), data.values[None], 3).shape);heavy = "
        "{'lightning', 'polars', 'matplotlib', 'torchmetrics'} & set(sys.modules);assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)

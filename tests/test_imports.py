import ast
import subprocess
import sys
from pathlib import Path

import rnn_lightning

PACKAGE = Path(rnn_lightning.__file__).parent


def imported_by(path: Path) -> set[str]:
    """Full names of the modules that a file imports anywhere in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def test_the_public_names_are_there_and_shown() -> None:
    for name in rnn_lightning.__all__:
        assert getattr(rnn_lightning, name).__name__ == name
    assert set(rnn_lightning.__all__) <= set(dir(rnn_lightning))


def test_importing_the_package_alone_imports_nothing_heavy() -> None:
    code = "import rnn_lightning, sys; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_arithmetic_needs_no_polars_or_matplotlib() -> None:
    code = (
        "import sys; from rnn_lightning.rollout import rollout; from rnn_lightning import "
        "RecurrentNetwork;from rnn_lightning.data.synthetic import SineSeries; data = "
        "SineSeries().load();print(rollout(RecurrentNetwork(), data.values[None], 3).shape);heavy = "
        "{'lightning', 'polars', 'matplotlib', 'torchmetrics'} & set(sys.modules);assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)

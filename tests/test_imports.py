import ast
import subprocess
import sys
from pathlib import Path

import rnn_lightning

PACKAGE = Path(rnn_lightning.__file__).parent
EDGE = {"datamodule.py", "forecaster.py", "callbacks.py", "forecast_writer.py", "cli.py"}


def imported_by(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add((node.module or "").partition(".")[0])
    return names


def test_only_the_edge_imports_lightning() -> None:
    assert {path.name for path in PACKAGE.rglob("*.py") if "lightning" in imported_by(path)} == EDGE


def test_every_public_name_is_there() -> None:
    for name in rnn_lightning.__all__:
        assert getattr(rnn_lightning, name).__name__ == name


def test_importing_the_package_alone_imports_nothing_heavy() -> None:
    code = "import rnn_lightning, sys; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_arithmetic_needs_no_polars_or_matplotlib() -> None:
    code = (
        "import sys; from rnn_lightning.rollout import rollout; from rnn_lightning.network import RecurrentNetwork;"
        "from rnn_lightning.series import SineSeries; data = SineSeries().load();"
        "print(rollout(RecurrentNetwork(), data.values[None], 3).shape);"
        "heavy = {'lightning', 'polars', 'matplotlib', 'torchmetrics'} & set(sys.modules); assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)

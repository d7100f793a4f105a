"""Who imports whom: the core knows nothing of the folders beside it, and nothing goes in circles."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import rnn_lightning

PACKAGE = Path(rnn_lightning.__file__).parent
MODULES = {
    ".".join(("rnn_lightning", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(
        ".__init__"
    ): path
    for path in PACKAGE.rglob("*.py")
}
FILES = (
    "network",
    "recurrent",
    "closed_loop",
    "transforms",
    "losses",
    "rollout",
    "metrics",
    "forecaster",
    "errors",
    "devices",
    "files",
    "pictures",
    "season_strength",
)
CORE = sorted(
    name
    for name in MODULES
    if name.startswith("rnn_lightning.data") or name.removeprefix("rnn_lightning.") in FILES
)
BESIDE = {"cli", "tables", "evaluation", "pretrained", "solver", "dynamics", "onnx", "native"}
PLAIN = [f"rnn_lightning.{name}" for name in FILES if name != "forecaster"]


@cache
def tree(module: str) -> ast.Module:
    return ast.parse(MODULES[module].read_text())


def imports(node: ast.AST, when_loaded: bool = False) -> Iterator[str]:
    """The full names that are imported in a module, or only those imported as soon as it is loaded."""
    for child in ast.iter_child_nodes(node):
        if when_loaded and isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if when_loaded and isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        if isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, "imports are absolute"
            yield from (f"{child.module}.{alias.name}" for alias in child.names)
        else:
            yield from imports(child, when_loaded)


def modules_imported(module: str, when_loaded: bool = False) -> set[str]:
    """The modules of the package that a module imports."""
    names = (
        name if name in MODULES else name.rpartition(".")[0] for name in imports(tree(module), when_loaded)
    )
    return {name for name in names if name in MODULES}


def folder(module: str) -> str:
    return module.split(".")[1] if module.count(".") > 1 else ""


def members(of_folder: str) -> list[str]:
    return [module for module in MODULES if folder(module) == of_folder]


def test_the_core_is_there() -> None:
    assert len(CORE) == len(FILES) + 7  # six modules of data, and its __init__


@pytest.mark.parametrize("module", CORE)
def test_the_core_imports_nothing_of_the_folders_beside_it(module: str) -> None:
    allowed = {"native"} if module == "rnn_lightning.recurrent" else set()
    assert {folder(name) for name in modules_imported(module)} & BESIDE <= allowed


@pytest.mark.parametrize(
    ("module", "kernel"),
    [
        ("rnn_lightning.recurrent", "rnn_lightning.native.layers"),
        ("rnn_lightning.pretrained.season_kernel", "rnn_lightning.native.seasonal"),
    ],
)
def test_the_kernel_is_imported_in_one_place_where_it_may_be_absent(module: str, kernel: str) -> None:
    (guard,) = [node for node in tree(module).body if isinstance(node, ast.Try)]
    assert list(imports(guard)) == [kernel]
    assert [ast.unparse(handler.type) for handler in guard.handlers if handler.type] == ["ImportError"]
    everywhere = [name for each in members(folder(module)) for name in imports(tree(each))]
    assert [name for name in everywhere if name.startswith("rnn_lightning.native")] == [kernel]


@pytest.mark.parametrize("module", PLAIN)
def test_the_arithmetic_of_the_core_is_plain_pytorch(module: str) -> None:
    """Not even another module that it imports knows Lightning."""
    reached: set[str] = set()
    new = {module}
    while new:
        reached |= new
        new = {name for each in new for name in modules_imported(each)} - reached
    assert not [name for name in reached if any(each.startswith("lightning") for each in imports(tree(name)))]


def test_no_module_imports_itself_by_way_of_others() -> None:
    """Only the command may import a part of itself late, when it runs."""
    done: set[str] = set()

    def follow(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " -> ".join((*path[path.index(module) :], module))
        if module not in done:
            for name in sorted(modules_imported(module, when_loaded=folder(module) == "cli")):
                follow(name, (*path, module))
            done.add(module)

    for module in MODULES:
        follow(module, ())
    assert done == set(MODULES)


def test_no_code_outside_of_its_folder_asks_for_the_kind_of_a_network() -> None:
    for module in MODULES:
        if folder(module) != "pretrained":
            calls = [node for node in ast.walk(tree(module)) if isinstance(node, ast.Call)]
            asked = [
                ast.unparse(call) for call in calls if ast.unparse(call.func) in ("isinstance", "issubclass")
            ]
            assert not any("SeasonalNetwork" in call for call in asked), (module, asked)


@pytest.mark.parametrize(
    ("importer", "forbidden"),
    [
        ("tables", {"evaluation", "pretrained", "cli", "onnx"}),
        ("pretrained", {"tables", "evaluation", "cli", "onnx"}),
        ("evaluation", {"pretrained", "cli", "onnx"}),
        ("onnx", {"tables", "evaluation", "cli"}),
        ("native", {"tables", "evaluation", "pretrained", "cli", "onnx", ""}),
    ],
)
def test_folders_know_only_what_they_may(importer: str, forbidden: set[str]) -> None:
    assert members(importer)
    for module in members(importer):
        found = {name for name in modules_imported(module) if folder(name) in forbidden} - {"rnn_lightning"}
        assert not found, (module, found)


def test_the_graphs_of_plain_networks_need_no_pretrained_network() -> None:
    plain = [name for name in members("onnx") if not name.rpartition(".")[2].startswith("season")]
    assert "rnn_lightning.onnx.recurrent" in plain
    for module in plain:
        found = {name for name in modules_imported(module) if "pretrained" in name or ".season" in name}
        assert not found, (module, found)


def test_the_public_names_are_there_and_shown() -> None:
    for name in rnn_lightning.__all__:
        assert getattr(rnn_lightning, name).__name__ == name
    assert set(rnn_lightning.__all__) <= set(dir(rnn_lightning))


def test_importing_the_package_alone_imports_nothing_heavy() -> None:
    code = "import rnn_lightning, sys; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_arithmetic_needs_no_lightning_polars_or_matplotlib() -> None:
    code = """
import sys
from rnn_lightning import RecurrentNetwork, SineSeries
from rnn_lightning.losses import training_loss, training_windows
from rnn_lightning.rollout import rollout
values = SineSeries().load().values[None]
network = RecurrentNetwork()
training_loss(network, training_windows(network, values, 100), 0.5).backward()
assert rollout(network.eval(), values, 3).shape == (1, 3, 1)
heavy = {"lightning", "polars", "matplotlib", "torchmetrics"} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", code], check=True)

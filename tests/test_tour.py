"""The tour names files and definitions that exist, and all files of the core in their order."""

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "rnn_lightning"
TOUR = (ROOT / "docs/tour.md").read_text()
SECTIONS = re.findall(r"^## \d+\. `([\w/]+\.py)`.*?$(.*?)(?=^## )", TOUR, re.DOTALL | re.MULTILINE)
NOT_NAMES = {"torch.nn", "rnn_lightning", "RecurrentNetwork", "rollout", "load"}


def test_the_tour_leads_through_every_file_of_the_core() -> None:
    named = [path for path, _ in SECTIONS]
    core = {str(path.relative_to(PACKAGE)) for path in (*PACKAGE.glob("*.py"), *PACKAGE.glob("data/*.py"))}
    assert len(named) == 15
    assert set(named) == core - {
        "__init__.py",
        "__main__.py",
        "devices.py",
        "files.py",
        "pictures.py",
        "season_strength.py",
        "data/__init__.py",
    }


def test_every_name_of_the_tour_is_defined_in_its_file() -> None:
    for path, text in SECTIONS:
        source = (PACKAGE / path).read_text()
        for name in re.findall(r"`(\w+)`", text):
            if name not in NOT_NAMES and not name.startswith("(batch"):
                defined = rf"^ *(def|class) {name}\b|^ *{name}(, \w+)*\s*[:=]"
                assert re.search(defined, source, re.MULTILINE), (path, name)


def test_the_folders_beside_the_core_exist() -> None:
    folders = re.findall(r"^\| `(\w+)/`", TOUR, re.MULTILINE)
    on_disk = {path.name for path in PACKAGE.iterdir() if path.is_dir() and (path / "__init__.py").exists()}
    assert set(folders) == on_disk - {"data"}


def test_the_tree_of_files_is_that_on_disk() -> None:
    (tree,) = re.findall(
        r"```text\n(rnn_lightning/\n.*?)```", (ROOT / "CONTRIBUTING.md").read_text(), re.DOTALL
    )
    named: set[str] = set()
    for line in tree.splitlines()[1:]:
        folder, _, files = line.partition(": ")
        prefix = "" if folder.strip() == "." else f"{folder.strip()}/"
        named |= {f"{prefix}{name}.py" for name in files.split()}
    on_disk = {str(path.relative_to(PACKAGE)) for path in PACKAGE.rglob("*.py") if path.name[:2] != "__"}
    assert named == on_disk

"""The README is one page; its set-up commands are those of CI, its links and badges are right."""

import re
import runpy
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, re.DOTALL)
COMMANDS = [line for kind, text in BLOCKS if kind == "bash" for line in text.strip().splitlines()]


def test_the_set_up_commands_are_those_that_ci_runs() -> None:
    installing = [line for line in COMMANDS if line.startswith("python3")]
    assert len(installing) == 2
    assert "rnn-lightning fit --config configs/sine.yaml" in installing[0]
    assert "rnn-lightning predict --config configs/sine.yaml" in installing[0]
    assert "pytest" in installing[1]
    assert "grep '^python3' README.md" in (ROOT / ".ci/run").read_text()


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        workflow = target.removeprefix("../../actions/").removesuffix("/badge.svg")
        assert target.startswith("https://") or any(
            (ROOT / folder / workflow).exists() for folder in (".", ".github")
        ), target


def test_the_readme_is_one_page() -> None:
    assert len(README.splitlines()) <= 130
    assert len(README.split()) <= 1200


def test_badges_say_what_the_project_says() -> None:
    badges = runpy.run_path(str(ROOT / "docs/make_badges.py"))["badges"]
    for name, text in badges().items():
        assert (ROOT / f"docs/badges/{name}.svg").read_text() == text


def test_the_citation_is_of_this_version() -> None:
    import yaml

    import rnn_lightning

    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert citation["version"] == rnn_lightning.__version__
    assert citation["license"] == project["license"]
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()

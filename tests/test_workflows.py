"""The workflows of the repository's host are well formed, and name files and extras that there are."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parent.parent
WORKFLOWS = sorted(ROOT.glob(".github/workflows/*.yaml"))
STEP = {"uses", "run", "with", "env", "name", "shell", "if"}
JOB = {"runs-on", "steps", "strategy", "timeout-minutes", "env", "defaults", "needs", "permissions", "if"}


def test_there_are_workflows() -> None:
    assert [path.stem for path in WORKFLOWS] == ["docs", "test", "wheels"]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_is_well_formed(path: Path) -> None:
    workflow: dict[Any, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert workflow.keys() == {"name", True, "permissions", "jobs"}  # YAML takes the key `on` for a truth
    assert workflow["permissions"] == {"contents": "read"}
    for job in workflow["jobs"].values():
        assert job.keys() <= JOB
        assert {"runs-on", "steps", "timeout-minutes"} <= job.keys()
        matrix = job.get("strategy", {}).get("matrix", {})
        assert set(re.findall(r"matrix\.(\w+)", str(job))) == set(matrix)
        for step in job["steps"]:
            assert step.keys() <= STEP
            assert len({"uses", "run"} & step.keys()) == 1
            assert re.fullmatch(r"[\w-]+/[\w-]+@v[\d.]+", step.get("uses", "a/b@v1"))


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_names_what_there_is(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = {name for names in re.findall(r"\.\[([\w,]+)\]", text) for name in names.split(",")}
    assert extras <= project["optional-dependencies"].keys()
    for name in re.findall(r"tests/\S+\.py", text):
        assert (ROOT / name).is_file()


def test_the_oldest_python_is_tested_and_built_for() -> None:
    oldest = "3.11"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["requires-python"] == f">={oldest}"
    matrix = yaml.safe_load((ROOT / ".github/workflows/test.yaml").read_text())["jobs"]["test"]["strategy"]
    assert oldest in matrix["matrix"]["python"]
    assert f"cp{oldest.replace('.', '')}-*" in (ROOT / ".github/workflows/wheels.yaml").read_text()


def test_pre_commit_checks_what_ci_checks() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    script = (ROOT / ".ci/run").read_text()
    assert [hook["entry"] for hook in hooks] == ["ruff check", "ruff format --check", "mypy"]
    assert all(f".venv/bin/{hook['entry']}" in script for hook in hooks)


@pytest.mark.parametrize(
    "path", sorted(ROOT.glob(".github/ISSUE_TEMPLATE/*.yaml")), ids=lambda path: path.stem
)
def test_an_issue_template_is_well_formed(path: Path) -> None:
    template = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert {"name", "description", "body"} <= template.keys()
    for part in template["body"]:
        assert part["type"] in ("markdown", "textarea", "input", "dropdown", "checkboxes")
        assert "value" in part["attributes"] if part["type"] == "markdown" else "label" in part["attributes"]

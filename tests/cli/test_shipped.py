"""Configs that come with the package are found by name, after the working folder."""

from pathlib import Path

import pytest

from rnn_lightning.cli.shipped import SHIPPED, find_configs, list_configs
from rnn_lightning.errors import InputError

CONFIGS = Path(str(SHIPPED)) / "configs"


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("name", ["sine", "sine.yaml", "configs/sine.yaml"])
def test_a_config_is_found_by_name(name: str) -> None:
    path = str(CONFIGS / "sine.yaml")
    assert find_configs(["fit", "--config", name, "--quiet"]) == ["fit", "--config", path, "--quiet"]
    assert find_configs(["fit", f"--config={name}"]) == ["fit", f"--config={path}"]
    assert find_configs(["fit", "-c", name]) == ["fit", "-c", path]


def test_the_working_folder_goes_first() -> None:
    Path("sine").write_text("experiment: mine")
    assert find_configs(["fit", "--config", "sine"]) == ["fit", "--config", "sine"]


def test_other_words_stay() -> None:
    words = ["fit", "sine", "--config", "other/sine.yaml", "--config", "none", "--experiment", "sine"]
    assert find_configs(words) == words


def test_the_table_of_a_config_is_found_beside_it() -> None:
    *_, table = find_configs(["fit", "--config", "table"])
    assert Path(table.removeprefix("--data.series.path=")).is_file()
    list_configs(["."])
    assert Path("data/shops.csv").is_file()
    assert find_configs(["fit", "--config", "configs/table.yaml"])[-1] == "configs/table.yaml"


def test_configs_are_listed_and_copied_once() -> None:
    assert "sine" in list_configs([])
    assert "configs/sine.yaml" in list_configs(["here"]).replace("\\", "/")
    with pytest.raises(InputError, match="already exists"):
        list_configs(["here"])

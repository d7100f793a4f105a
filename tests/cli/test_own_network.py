"""Networks of the user's own: from the fit to the forecast, by the command and in a script."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from rnn_lightning import Forecaster
from rnn_lightning.errors import InputError

Call = Callable[..., None]
SHORT = ("--trainer.max_epochs=1", "--data.num_batches_per_epoch=5")
HEAD = "from rnn_lightning import Forecaster\n\n\nclass Mine(Forecaster):\n"
WITH_OPTIONS = """\
    def __init__(self, penalty: float = 0.0, **options):
        super().__init__(**options)
        self.penalty = penalty
"""
EXPLICIT = """\
    def __init__(self, penalty: float = 0.0, hidden_size: int = 4):
        super().__init__(hidden_size=hidden_size)
        self.penalty = penalty
"""


@pytest.fixture(params=[WITH_OPTIONS, EXPLICIT], ids=["options", "explicit"])
def module(request: pytest.FixtureRequest, rnn_lightning: Call, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a module with the class ``Mine``, in the folder of the test, which has a fit of it."""
    name = f"mine_{request.node.name.partition('[')[0]}_{'options' in request.param}"
    Path(f"{name}.py").write_text(HEAD + request.param)
    monkeypatch.syspath_prepend(str(Path.cwd()))
    rnn_lightning("fit", *SHORT, "--model", f"{name}.Mine", "--model.penalty=0.1", "--model.hidden_size=5")
    return name


def test_an_own_network_goes_through_all_commands(rnn_lightning: Call, module: str) -> None:
    for command in ("predict", "test", "validate"):
        rnn_lightning(command, f"--model={module}.Mine")
    rnn_lightning("predict", "--config", "runs/default/fit_0/config.yaml")
    config = yaml.safe_load(Path("runs/default/predict_0/config.yaml").read_text())
    assert (config["model_class"], config["model"]["penalty"]) == (f"{module}.Mine", 0.1)
    rnn_lightning("fit", "--model", f"{module}.Mine", "--ckpt_path=last", "--trainer.max_epochs=2")
    assert Path("runs/default/fit_1/checkpoints/last.ckpt").is_file()
    pytest.importorskip("onnx")
    rnn_lightning("export", "--model", f"{module}.Mine", "mine.onnx")
    assert Path("mine.onnx").is_file()


def test_an_own_network_must_be_named_by_the_user(
    rnn_lightning: Call, module: str, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    for words, message in (
        ([], f"allow its import by --model {module}.Mine"),
        (["--model", "Forecaster"], f"holds a network of the class {module}.Mine, not Forecaster"),
    ):
        for command in ("predict", "test", "export"):
            with pytest.raises(SystemExit) as ended:
                rnn_lightning(command, *words, *(["x.onnx"] if command == "export" else []))
            assert ended.value.code == 2
            error = capsys.readouterr().err
            assert message in error
            assert len(error.strip().splitlines()) == 1


def test_a_script_loads_an_own_network_by_its_own_class_alone(module: str) -> None:
    path = "runs/default/fit_0/checkpoints/last.ckpt"
    mine = sys.modules[module].Mine.load_from_checkpoint(path)
    assert (mine.penalty, mine.network.recurrent.hidden_size) == (0.1, 5)
    with pytest.raises(InputError, match=rf"holds a network of the class {module}\.Mine, not .*Forecaster"):
        Forecaster.load_from_checkpoint(path)


def test_a_bundled_class_is_named_without_its_module(rnn_lightning: Call) -> None:
    rnn_lightning("fit", *SHORT, "--model", "Forecaster", "--model.hidden_size=3")
    config = yaml.safe_load(Path("runs/default/fit_0/config.yaml").read_text())
    assert config["model_class"] == "rnn_lightning.forecaster.Forecaster"
    assert config["model"]["hidden_size"] == 3


@pytest.mark.parametrize("name", ["rnn_lightning.SineSerie", "nothing_here.Chirp", "SineSerie"])
def test_a_misspelt_class_of_series_is_one_line(
    rnn_lightning: Call, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        rnn_lightning("fit", "--data.series", name)
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert "--data.series: there is no such class" in error
    assert len(error.strip().splitlines()) == 1

"""The examples make the forecasts of Python in Node and in a browser."""

import json
import os
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rnn_lightning import PredictionIntervals, RecurrentNetwork
from rnn_lightning.evaluation.interval_widths import learn_half_widths
from rnn_lightning.pretrained.bundled import bundled_network
from rnn_lightning.rollout import rollout

pytest.importorskip("onnx")
from rnn_lightning.onnx.export import export_onnx

EXAMPLES = Path(__file__).parents[2] / "examples"
NODE = shutil.which("node")
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
MODULES = Path(os.environ.get("NODE_PATH", EXAMPLES / "node_modules"))
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--virtual-time-budget=60000", "--dump-dom"),
)

needs_node = pytest.mark.skipif(
    NODE is None or not (MODULES / "onnxruntime-node").exists(),
    reason="needs node, and NODE_PATH with npm install --onnxruntime-node-install-cuda=skip onnxruntime-node",
)
needs_browser = pytest.mark.skipif(
    BROWSER is None or not (MODULES / "onnxruntime-web").exists(),
    reason="needs chromium, and NODE_PATH with npm install onnxruntime-web",
)


def run_node(folder: Path, **inputs: Any) -> dict[str, Any]:
    """What ``forecast.mjs`` prints for the ``model.onnx`` in a folder."""
    (folder / "inputs.json").write_text(json.dumps(inputs).replace("NaN", "null"))
    (folder / "node_modules").symlink_to(MODULES)
    command = [str(NODE), str(EXAMPLES / "forecast.mjs"), "model.onnx", "inputs.json"]
    return dict(json.loads(subprocess.run(command, cwd=folder, check=True, capture_output=True).stdout))


def walks(*sizes: int) -> torch.Tensor:
    values = 50 + torch.randn(*sizes, generator=torch.Generator().manual_seed(0)).cumsum(1)
    return values.index_fill(1, torch.tensor([7, 8]), torch.nan)


def intervals() -> PredictionIntervals:
    """Calibrated by the errors of random walks."""
    errors = torch.randn(400, 30, 1, generator=torch.manual_seed(0)).cumsum(1)
    half_widths, horizon = learn_half_widths(errors, torch.ones(400, 1), origin_step=30)
    calibrated = PredictionIntervals()
    facts = {"season": 1, "nonnegative": torch.tensor([False]), "relative": torch.tensor([torch.nan])}
    calibrated.load_state_dict({"half_widths": half_widths, "horizon": horizon, **facts})
    return calibrated


@needs_node
@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_node_forecasts_by_a_plain_network(cell: Any, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = RecurrentNetwork(2, cell, 8, transforms=["standardize_context"], num_covariates=2).eval()
    network.transforms.fit([walks(1, 60, 2)[0, 9:]])
    context, covariates = walks(3, 20, 2), torch.rand(3, 50, 2)
    with torch.no_grad():
        expected = rollout(network, context, 30, covariates=covariates).numpy()
    export_onnx(network, tmp_path / "model.onnx")
    result = run_node(tmp_path, context=context.tolist(), horizon=30, covariates=covariates.tolist())
    assert result["dims"] == [1, 3, 30, 2]
    np.testing.assert_allclose(np.reshape(result["forecast"], (3, 30, 2)), expected, rtol=1e-5, atol=1e-5)


@needs_node
def test_node_forecasts_by_the_bundled_network(tmp_path: Path) -> None:
    context, seasons = walks(3, 60, 1), torch.tensor([12, 12, 12])
    with torch.no_grad():
        expected = rollout(bundled_network(), context, 30, traits={"season": seasons})
    export_onnx(bundled_network(), tmp_path / "model.onnx", intervals().table([80]))
    result = run_node(tmp_path, context=context.tolist(), horizon=30, season=[12, 12, 12])
    bounds = intervals().interval_bounds(expected, context, [80], seasons=seasons)
    for name, values in zip(("forecast", "lo-80", "hi-80"), (expected, *bounds), strict=True):
        np.testing.assert_allclose(np.reshape(result[name], (3, 30, 1)), values, rtol=1e-5, atol=1e-5)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder with the page and onnxruntime-web, and its address."""
    (tmp_path / "node_modules").symlink_to(MODULES)
    shutil.copy(EXAMPLES / "forecast.html", tmp_path)
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield tmp_path, f"http://127.0.0.1:{server.server_port}/forecast.html"
        server.shutdown()
        thread.join()


def browse(address: str, profile: Path) -> str:
    """The page after its scripts have run."""
    command = [str(BROWSER), *FLAGS, f"--user-data-dir={profile}", address]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=180).stdout


@needs_browser
def test_a_browser_forecasts_by_the_bundled_network(
    site: tuple[Path, str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder, address = site
    context = walks(1, 60, 1)
    values = ["" if value != value else repr(value) for value in context.flatten().tolist()]
    (folder / "sales.csv").write_text("ds,y\n" + "\n".join(f"{t},{value}" for t, value in enumerate(values)))
    export_onnx(bundled_network(), folder / "tuned.onnx", intervals().table([50, 80]))
    profile = tmp_path_factory.mktemp("profile")
    page = browse(f"{address}?model=tuned.onnx&data=sales.csv&season=7&horizon=30", profile)
    assert "60 known steps, 30 forecast" in page, re.findall(r'id="status".*', page)
    (text,) = re.findall(r'id="forecast" readonly="">(.*?)</textarea>', page, re.DOTALL)
    names, *rows = text.splitlines()
    assert names == "forecast,lo-50,hi-50,lo-80,hi-80"
    seasons = torch.tensor([7])
    with torch.no_grad():
        point = rollout(bundled_network(), context, 30, traits={"season": seasons})
    expected = torch.cat([point, *intervals().interval_bounds(point, context, [50, 80], seasons=seasons)])
    found = np.array([row.split(",") for row in rows], float)
    np.testing.assert_allclose(found, expected[..., 0].T, rtol=1e-5)
    assert page.count('opacity=".18"></path>') == 2  # a band for each level
    page = browse(f"{address}?model=none.onnx", profile)
    assert "The network cannot be loaded:" in page

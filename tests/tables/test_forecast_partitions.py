"""Forecasts over the partitions of a Dask frame equal those of one process."""

from pathlib import Path
from typing import Any

import lightning.pytorch as L
import numpy as np
import pytest

from rnn_lightning import Forecaster, TableDataModule, forecast_frame
from rnn_lightning.tables.forecast_partitions import forecast_partitions

dask = pytest.importorskip("dask.dataframe")
distributed = pytest.importorskip("distributed")
pandas = pytest.importorskip("pandas")


@pytest.mark.filterwarnings("ignore")
def test_two_workers_forecast_a_thousand_series_like_one_process(tmp_path: Path) -> None:
    steps, names = np.arange(40), [f"s{number}" for number in range(1000)]
    values = np.sin(steps / 3) + np.arange(1000)[:, None] % 17
    ids = np.repeat(names, 40)
    table = pandas.DataFrame({"unique_id": ids, "ds": np.tile(steps, 1000), "y": values.ravel()})
    quiet = dict.fromkeys(["logger", "enable_checkpointing", "enable_progress_bar"], False)
    run = L.Trainer(max_epochs=1, accelerator="cpu", **quiet)  # type: ignore[arg-type]
    data = TableDataModule(table, context_length=20, horizon=5, num_batches_per_epoch=2)
    run.fit(Forecaster(hidden_size=4), data)
    run.save_checkpoint(tmp_path / "network.ckpt")
    alone: Any = forecast_frame(tmp_path / "network.ckpt", table)
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        distributed.Client(cluster),
    ):
        together = forecast_partitions(
            tmp_path / "network.ckpt", dask.from_pandas(table, npartitions=4)
        ).compute()
    keys = ["unique_id", "ds"]
    alone, together = (each.sort_values(keys).reset_index(drop=True) for each in (alone, together))
    assert (alone[keys].astype(str) == together[keys].astype(str)).all(None)
    assert np.abs(alone["y"] - together["y"]).max() < 1e-6

"""What a test of a dynamical system says and draws."""

from pathlib import Path
from typing import Any

import lightning.pytorch as L

from rnn_lightning.dynamics.measured import measure


class DynamicsReport(L.Callback):
    """Measure the forecasts of a test of one dynamical system, print the numbers and draw ``dynamics.png``.

    Forecasts start all over the test split and are half as long as it. They, and a free run as long as the
    series, are those of the network alone: there are no covariates.
    """

    def on_test_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        network: Any = pl_module.network
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        if network.num_covariates or data.data.num_series > 1:
            if trainer.is_global_zero:
                print("Dynamics are measured only for a single series without covariates.")
            return
        measured = measure(network, data)
        pl_module.log("test_valid_steps", measured.valid.double().median().float(), sync_dist=True)
        folder = Path(trainer.log_dir or trainer.default_root_dir)  # all devices have to ask for it
        if trainer.is_global_zero:
            from rnn_lightning.dynamics.plot import plot_dynamics  # matplotlib takes a while to import
            from rnn_lightning.pictures import save_png

            folder.mkdir(parents=True, exist_ok=True)
            save_png(plot_dynamics(measured), folder / "dynamics.png")
            print(f"{measured.text()}\nPicture: {folder / 'dynamics.png'}")

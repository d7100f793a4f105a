"""The data module of tables: batches for the Trainer, shared by processes, and facts for the checkpoint."""

from collections.abc import Sequence
from typing import Any

from lightning.pytorch.callbacks import Callback
from torch import Tensor

from rnn_lightning.data.array import ArraySeries
from rnn_lightning.data.datamodule import SequenceDataModule
from rnn_lightning.data.series import SeriesData
from rnn_lightning.data.windows import BatchLoader, ForecastBatch, ShuffledLoader, Split
from rnn_lightning.tables.batches import TableBatches
from rnn_lightning.tables.default_sizes import SIZES
from rnn_lightning.tables.processes import (
    first_series,
    load_shared,
    numbered_from,
    prepare_share,
    require_same_run,
    sum_over_machines,
)
from rnn_lightning.tables.table import COLUMN_LISTS, TableSeries, require_order

MAX_REMEMBERED = 1000
"""Series up to which a checkpoint keeps their ids, so that a forecast can say which came or went."""


class TableDataModule(TableBatches, SequenceDataModule):
    """The series of a table for the Trainer: windows to train on, and forecasts to make.

    Arguments and attributes are those of ``TableBatches``.

    Attributes:
        was_held_out: the test split was held out from the fit of the checkpoint as well.
    """

    was_held_out = True
    ids_of_fit: Sequence[str] = ()  # those that the checkpoint of a forecast keeps
    carried: Any = None  # the states of the rows of ``carry_state``
    _resumed: Sequence[Tensor] = ()  # those of the fit that is resumed, of all devices

    @property
    def shares_files(self) -> bool:
        """Whether each machine of the run reads its own files."""
        is_asked = getattr(self.series, "share_files", False)
        return is_asked and self.trainer is not None and self.trainer.num_nodes > 1

    @property
    def devices(self) -> tuple[int, int]:  # type: ignore[override]
        """The number of this device, and of all that have the same series."""
        trainer = self.trainer
        return (trainer.local_rank, trainer.num_devices) if trainer and self.shares_files else super().devices

    def setup(self, stage: str) -> None:
        if self.shares_files:
            prepare_share(self, stage)
        super().setup(stage)
        if self._auto:
            self.hparams.update({name: getattr(self, name) for name in SIZES})

    def load(self) -> SeriesData:
        """Load the series once on each machine: one process writes them into a file, which all map."""
        if self.trainer is not None and self.trainer.world_size > 1:
            require_same_run(self)
        is_mapped = isinstance(self.series, ArraySeries)  # by every process already
        if self.trainer is None or self.trainer.num_devices == 1 or is_mapped:
            return super().load()
        return load_shared(super().load, self.trainer)

    def predict_dataloader(self) -> BatchLoader[ForecastBatch]:
        return self._numbered(super().predict_dataloader())

    def val_dataloader(self) -> BatchLoader[ForecastBatch] | list[Any]:
        loader = super().val_dataloader()
        return loader if isinstance(loader, list) else self._numbered(loader)

    def _numbered(self, loader: BatchLoader[ForecastBatch]) -> BatchLoader[ForecastBatch]:
        """Return forecasts whose series are numbered over all machines."""
        if self.shares_files:
            cut, self.first_series = loader.make_batch, first_series(self)
            loader.make_batch = lambda items: numbered_from(self.first_series, cut(items))
        return loader

    def num_forecasts(self, split: Split) -> int:
        number = super().num_forecasts(split)
        return sum_over_machines(self, number) if self.shares_files else number

    @property
    def facts(self) -> dict[str, Any]:
        """How a table was read and what forecasts see, plain: a checkpoint keeps it."""
        settings = {name: self.hparams[name] for name in ("context_length", "horizon", "season")}
        if not isinstance(self.series, TableSeries):
            return settings
        found = {"frequencies": self._frequencies()} if hasattr(self, "_loaded") else {}
        return {**self.series.options(), **settings, **found}

    def callbacks_of(self, module: Any) -> list[Callback]:
        """Return the callbacks that a fit needs: a final fit, unless it makes one or trains on all anyway."""
        is_one_fit = getattr(module, "refits", False) or getattr(self.trainer, "fast_dev_run", False)
        if not self.final_fit_on_all or not self.val_fraction > 0 or is_one_fit:
            return []
        from rnn_lightning.solver.final_fit import FinalFit

        return [FinalFit()]

    def window_loader(self) -> ShuffledLoader:
        if not self.carry_state or self.trainer is None:
            return super().window_loader()
        from rnn_lightning.solver.carried_state import CarriedState, continued_loader

        self.carried = CarriedState(tuple(part[self.devices[0]] for part in self._resumed))
        return continued_loader(self, self.trainer.lightning_module, self.carried)

    def state_dict(self) -> dict[str, Any]:
        if self.trainer is None:
            return {}
        facts = {"frequencies": self._frequencies(), "test_fraction": self.test_fraction}
        facts["found_context"] = self._found_context
        facts["columns"] = self._columns
        if isinstance(self.series, TableSeries) and self.data.num_series <= MAX_REMEMBERED:
            facts["ids"] = [*self.data.ids]
        if self.carried is not None:
            facts["carried"] = self.carried.of_all_devices()
        return {**super().state_dict(), **facts}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from the position; refuse series of other frequencies than those of the fit."""
        super().load_state_dict(state_dict)
        self.was_held_out = state_dict.get("test_fraction", self.test_fraction) >= self.test_fraction
        self._found_context = state_dict.get("found_context", self._found_context)
        self.ids_of_fit = () if self.shares_files else state_dict.get("ids", ())
        self._resumed = state_dict.get("carried", [])
        require_order(state_dict.get("columns", {}), self._columns)
        if hasattr(self, "_loaded"):
            self.require_frequencies(state_dict.get("frequencies", []))

    @property
    def _columns(self) -> dict[str, list[str]]:
        return {name: [*getattr(self.series, name, ())] for name in COLUMN_LISTS}

    def summary(self) -> dict[str, Any]:
        """Return what there is to train and to score on, see ``summary.py``."""
        from rnn_lightning.tables.summary import split_counts, summarize

        return summarize(self.data, split_counts(self), self.horizon)

    def describe(self) -> str:
        """Return what there is to train and to score on, as the command prints it before a fit."""
        from rnn_lightning.tables.summary import as_text

        self.setup("fit")
        return as_text(self.summary())

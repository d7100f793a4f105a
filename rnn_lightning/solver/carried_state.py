"""Truncated backpropagation through time with a carried state: windows that continue each other.

Each row of a batch goes through consecutive windows, one a batch, and the state in which it leaves a window
is the one in which it enters the next, without a gradient between them (Williams and Peng 1990). The states
are those of one long pass that is cut between the scored steps, while the memory is that of one batch.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rnn_lightning.data.windows import Segments, ShuffledLoader, Windows, training_starts, window_batch
from rnn_lightning.errors import InputError
from rnn_lightning.losses import TrainingWindows
from rnn_lightning.metrics import gathered
from rnn_lightning.network import Network
from rnn_lightning.recurrent import RecurrentState


class CarriedState:
    """The states in which the rows of a device have left their last windows.

    Attributes:
        parts: ``(layer, row, hidden)`` each, without gradient; none before the first batch.
    """

    def __init__(self, parts: RecurrentState = ()) -> None:
        self.parts = parts

    def of_all_devices(self) -> list[Tensor]:
        """Return the states of all devices, ``(device, layer, row, hidden)`` each, for a checkpoint."""
        return [gathered([part[None]]).cpu() for part in self.parts]


@dataclass
class Continuation:
    """What the windows of a batch continue.

    Attributes:
        carried: the states of all rows, which the batch takes and replaces.
        continues: ``(batch,)``, whether a row continues its last window; others start from zero.
        before: the state before the last step of the contexts, once it is known.
    """

    carried: CarriedState
    continues: Tensor
    before: RecurrentState | None = None

    def teacher_forced(self, network: Network, windows: TrainingWindows) -> Tensor:
        """Return the predictions ``(batch, scored, feature)``, and carry the state on."""
        first = windows.context_length - 1  # inputs before it are those of the last window
        self.before = self._state(network, windows)
        inputs = windows.inputs[:, first:-1]
        encoded = network.encode(inputs, self.before, windows.traits, 0, windows.complete)
        self.carried.parts = tuple(part.detach() for part in encoded.state)
        return encoded.predictions

    def context_state(self, network: Network, windows: TrainingWindows) -> RecurrentState:
        """Return the state after the contexts."""
        last = windows.inputs[:, windows.context_length - 1 : windows.context_length]
        before = self._state(network, windows) if self.before is None else self.before
        return network.encode(last, before, windows.traits, 1, windows.complete).state

    def _state(self, network: Network, windows: TrainingWindows) -> RecurrentState:
        """Return the state before the last step of the context."""
        size, first = len(windows.inputs), windows.context_length - 1
        like = windows.inputs
        carried = tuple(part[:, :size].to(like) for part in self.carried.parts)  # rows only end
        if bool(self.continues.all()):
            return carried
        if first == 0:
            started = network.initial_state(size, windows.traits)
        else:
            context = windows.inputs[:, :first]
            started = network.encode(context, None, windows.traits, first, windows.complete).state
        if not bool(self.continues.any()):
            return started
        kept = self.continues.to(like.device)[:, None]  # (batch, 1)
        return tuple(torch.where(kept, *parts) for parts in zip(carried, started, strict=True))


class ContinuedLoader(ShuffledLoader):
    """Loads windows that stand side by side in rows, each of which goes through a run of them.

    The windows of all series, in order, are divided among the devices and then among the rows; where a row
    comes to the next series it starts from zero. The last batch of a pass may lack rows.
    """

    def _items(self, position: int) -> Tensor:
        step, starts = position % self.batches_per_pass, self.row_starts()
        ends = torch.cat([starts[1:], starts[:1] + self.num_each])
        items = starts + step
        return items[items < ends]

    def row_starts(self) -> Tensor:
        """Return the first window of each row of this device, ``(row,)``; longer rows come first."""
        num_rows = min(self.batch_size, self.num_each)
        rows = np.array_split(np.arange(self.num_each) + self.rank * self.num_each, num_rows)
        return torch.tensor([int(row[0]) for row in rows])


def continued_loader(data: Any, module: Any, carried: CarriedState) -> ContinuedLoader:
    """Return the loader of a data module for ``carry_state``.

    Raises:
        InputError: if the windows of the network cannot continue each other.
    """
    segments: Segments = data.training_segments()
    windows: Windows = training_starts(segments, data.context_length, data.scored_length, data.scored_length)
    settings = (data.context_length, data.context_length + data.scored_length)
    cut = partial(window_batch, data.data, segments, windows, *settings)

    def make_batch(items: Tensor) -> TrainingWindows:
        prepared = module.training_windows(cut(items))
        if not isinstance(prepared, TrainingWindows):
            raise InputError("`carry_state` is for networks from scratch: give a `cell`.")
        before = (items - 1).clamp_min(0)
        same_series = windows.locate(items)[0] == windows.locate(before)[0]
        continues = same_series & ~torch.isin(items, loader.row_starts())
        return prepared._replace(continuation=Continuation(carried, continues))

    if "standardize_context" in module.architecture[-1]:
        rule = "`carry_state` needs units that all windows of a series share"
        raise InputError(f"{rule}: choose `transforms` standardize, not standardize_context.")
    order: dict[str, Any] = {"num_batches": data.num_batches_per_epoch, "seed": data.seed}
    loader = ContinuedLoader(make_batch, len(windows), data.batch_size, data.devices, **order)
    return loader

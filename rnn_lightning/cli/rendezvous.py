"""How the processes of a run find each other: a port that another program uses ends all of them."""

import contextlib
import socket
import threading
import time
from datetime import timedelta
from typing import Any

import torch
from lightning.pytorch.strategies import ParallelStrategy

from rnn_lightning.cli.exit_messages import PORT_IN_USE
from rnn_lightning.errors import InputError

PATIENCE, MAX_WAIT = 20.0, 1800.0
"""Seconds in which the first process answers, and in which it starts to listen."""


def meet_first_process(trainer: Any) -> None:
    """Wait for the first process of a run that something other than Lightning starts, or on several machines.

    PyTorch would wait for an answer of whatever program listens at the port, without an end.

    Raises:
        InputError: if another program listens there.
    """
    environment: Any = getattr(trainer.strategy, "cluster_environment", None)
    if not isinstance(trainer.strategy, ParallelStrategy) or environment is None or trainer.world_size == 1:
        return
    rank = environment.global_rank() if environment.creates_processes_externally else environment.node_rank()
    if rank > 0:
        require_store(environment.main_address, environment.main_port)


def require_store(address: str, port: int) -> None:
    """Wait until something listens at a port, and refuse what is no store of PyTorch."""
    for _ in range(int(MAX_WAIT)):
        try:
            socket.create_connection((address, port), timeout=PATIENCE).close()
            break
        except OSError:  # the first process has not started yet
            time.sleep(1.0)
    # The constructor may never return, whatever its timeout.
    has_answered = threading.Event()
    threading.Thread(target=_greet, args=(address, port, has_answered), daemon=True).start()
    if not has_answered.wait(PATIENCE):
        raise InputError(PORT_IN_USE.format(port))


def _greet(address: str, port: int, has_answered: threading.Event) -> None:
    timeout, distributed = timedelta(seconds=PATIENCE), torch.distributed
    with contextlib.suppress(RuntimeError):  # another program has ended the connection
        distributed.TCPStore(address, port, is_master=False, wait_for_workers=False, timeout=timeout)  # type: ignore[attr-defined]
        has_answered.set()

"""Groups of processes for the tests, which talk by gloo and are set up as torchrun does."""

import logging
import multiprocessing
import os
import socket
import traceback
import warnings
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from typing import Any

import torch

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    ["lightning.pytorch.cli", "polars", "rnn_lightning.cli.lightning_cli"]
)  # imported once for all tests


class Failure(str):
    """The traceback of a process, or a note of its end."""


def start_group(
    num: int, function: Callable[..., Any], *args: Any
) -> list[tuple[ForkServerProcess, Connection]]:
    """Start ``function(*args)`` in ``num`` processes that make a group."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    group = []
    for rank in range(num):
        mine, theirs = CONTEXT.Pipe()
        process = CONTEXT.Process(
            target=work,
            args=(rank, num, port, theirs, warnings.filters, os.getcwd(), function, args),
            daemon=True,
        )
        process.start()
        theirs.close()
        group.append((process, mine))
    return group


def results(group: list[tuple[ForkServerProcess, Connection]]) -> list[Any]:
    """What each process returned; where one raised or died, its traceback or a note of it."""
    returned = []
    for process, connection in group:
        try:
            returned.append(connection.recv())
        except EOFError:
            returned.append(Failure("died"))
        process.join()
    return returned


def in_group(num: int, function: Callable[..., Any], *args: Any) -> list[Any]:
    """What ``function(*args)`` returns in each process of a group."""
    returned = results(start_group(num, function, *args))
    for value in returned:
        assert not isinstance(value, Failure), value
    return returned


def work(
    rank: int,
    num: int,
    port: int,
    connection: Connection,
    filters: Any,
    folder: str,
    function: Any,
    args: Any,
) -> None:
    from lightning.pytorch.utilities import rank_zero_only
    from torchmetrics.utilities import prints

    torch.set_num_threads(1)
    warnings.filters[:] = filters  # type: ignore[index]
    os.chdir(folder)
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    logging.getLogger("lightning.fabric").setLevel(logging.ERROR)
    for only in (rank_zero_only, prints.rank_zero_only):
        only.rank = rank  # type: ignore[union-attr]
    if num > 1:
        os.environ |= {
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "GROUP_RANK": "0",
            "TORCHELASTIC_RUN_ID": "test",
        }
        os.environ |= {"WORLD_SIZE": str(num), "LOCAL_WORLD_SIZE": str(num)}
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    try:
        connection.send(function(*args))
    except BaseException:
        connection.send(Failure(traceback.format_exc()))

"""Groups of processes for the tests, which talk by gloo and are set up as torchrun does."""

import contextlib
import logging
import multiprocessing
import os
import random
import socket
import traceback
import warnings
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerProcess
from typing import Any, cast

import torch

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    ["lightning.pytorch.cli", "polars", "rnn_lightning.cli.lightning_cli"]
)  # imported once for all tests


class Failure(str):
    """The traceback of a process, or a note of its end."""


def free_port() -> int:
    """A free port below those that the system gives to connections, which could take it before the group."""
    while True:
        port = random.SystemRandom().randrange(15_000, 32_000)
        with socket.socket() as free, contextlib.suppress(OSError):
            free.bind(("127.0.0.1", port))
            return port


def start_group(
    num: int, function: Callable[..., Any], *args: Any
) -> list[tuple[ForkServerProcess, Connection]]:
    """Start ``function(*args)`` in ``num`` processes that make a group."""
    port = free_port()
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
    """What each process returned; where one raised or died, its traceback or a note of it.

    After the first failure the others have a minute: before they meet, they would wait for half an hour.
    """
    returned: dict[Any, Any] = {}
    waiting: dict[Any, ForkServerProcess] = {connection: process for process, connection in group}
    while waiting:
        has_failed = any(isinstance(value, Failure) for value in returned.values())
        if not (ready := wait([*waiting], timeout=60 if has_failed else None)):
            for process in waiting.values():
                process.kill()
        for connection in cast(list[Connection], ready):
            try:
                returned[connection] = connection.recv()
            except EOFError:
                returned[connection] = Failure("died")
            waiting.pop(connection).join()
    return [returned[connection] for _, connection in group]


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

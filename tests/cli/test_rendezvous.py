"""Processes that something other than Lightning starts find each other, or end in one line."""

import socket
from typing import Any

import pytest
import torch

from rnn_lightning.cli import rendezvous
from rnn_lightning.cli.exit_messages import one_line
from rnn_lightning.errors import InputError


def test_a_port_of_another_program_is_told_by_all_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendezvous, "PATIENCE", 1.0)
    distributed: Any = torch.distributed
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        used = f"the port {port} of the first machine is used by another program: set MASTER_PORT"
        with pytest.raises(InputError, match=used):
            rendezvous.require_store("127.0.0.1", port)
        with pytest.raises(RuntimeError) as raised:
            distributed.TCPStore("127.0.0.1", port, is_master=True, wait_for_workers=False)
        assert used in (one_line(raised.value) or "")


def test_the_first_process_is_met_as_soon_as_it_listens() -> None:
    distributed: Any = torch.distributed
    store = distributed.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    rendezvous.require_store("127.0.0.1", store.port)

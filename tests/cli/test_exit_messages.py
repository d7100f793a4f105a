"""One line for what a user can put right, and none for a defect."""

import errno

import pytest

from rnn_lightning.cli.exit_messages import one_line
from rnn_lightning.errors import InputError


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (InputError("the rule."), "the rule."),
        (
            OSError(errno.ENOSPC, "full", "runs/a"),
            "No space left on device: 'runs/a'. What is complete is kept.",
        ),
        (
            OSError("No space left on device (os error 28)"),  # as polars says it
            "No space left on device: the disk of the run. What is complete is kept.",
        ),
        (OSError(errno.ENOTCONN, "not connected"), None),
        (MemoryError(), "out of memory: lower --data.batch_size"),
        (ValueError("a defect"), None),
    ],
)
def test_what_a_user_can_put_right_is_one_line(error: Exception, message: str | None) -> None:
    said = one_line(error)
    assert said is None if message is None else (said or "").startswith(message)
    outer = RuntimeError("by another one")
    outer.__cause__ = error
    assert one_line(outer) == (said if isinstance(error, OSError) else None)

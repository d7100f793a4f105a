"""The folders of runs, ``runs/<experiment>/<command>_<number>``. No Lightning."""

import contextlib
import re
from pathlib import Path

from rnn_lightning.errors import InputError
from rnn_lightning.files import remove_abandoned

CHECKPOINTS = "fit_*/checkpoints"
"""The folders of checkpoints in the folder of an experiment."""

FORBIDDEN = r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\..*)?|.*[<>:\"|?*\\].*|.*[. ]"
"""Names of folders that Windows does not take, so that no project depends on its system."""


def new_run_folder(experiment: Path, command: str) -> str:
    """Make a new folder ``<command>_<number>`` in the folder of an experiment, and return its name.

    Two runs that start at the same time get two folders: making a folder fails if another run was faster, and
    the next number is taken.
    """
    for part in experiment.parts[experiment.is_absolute() :]:
        if part != ".." and re.fullmatch(FORBIDDEN, part):
            raise InputError(f"`experiment` {part!r} is no name of a folder on every system: choose another.")
    try:
        experiment.mkdir(parents=True, exist_ok=True)
        remove_abandoned(experiment)
        found = (re.fullmatch(rf"{command}_(\d+)", path.name) for path in experiment.iterdir())
        number = max((int(match[1]) for match in found if match), default=-1) + 1
        while True:
            with contextlib.suppress(FileExistsError):
                (experiment / f"{command}_{number}").mkdir()
                return f"{command}_{number}"
            number += 1
    except OSError as error:
        raise InputError(
            f"`default_root_dir` {experiment.parent}: cannot be written ({error.strerror})."
        ) from error


def remove_if_empty(folder: Path) -> None:
    """Remove the folder of a run that failed before it wrote anything."""
    with contextlib.suppress(OSError):  # not empty
        folder.rmdir()

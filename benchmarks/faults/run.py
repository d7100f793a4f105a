"""The fault harness: what becomes of kills, full disks, damaged files, strange numbers and surroundings.

    python benchmarks/faults/run.py                 # the full counts, an hour or two on one core
    python benchmarks/faults/run.py --part 0.1      # a tenth of them
    python benchmarks/faults/run.py kills_of_fit    # one group

A trial is a command in a process of its own. It must end with a right result or with one line that says what
is wrong (exit code 2), leave no temporary file behind, and never end with a traceback, a hang or a wrong
result without a word. Full disks need the right to mount; without it only the size of files is limited.
"""

import argparse
import platform
import signal
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import groups
import torch
from environments import environments
from trials import KINDS, Tally

FULL: dict[Callable[[Path, int], Tally], int] = {
    groups.kills_of_fit: 100,
    groups.kills_of_predict: 50,
    groups.resumes: 35,
    groups.full_disks: 60,
    groups.corrupted_checkpoints: 150,
    groups.tables: 200,
    groups.numbers: 40,
    groups.starts: 20,
    environments: 31,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("groups", nargs="*", help="some of " + ", ".join(group.__name__ for group in FULL))
    parser.add_argument("--part", type=float, default=1.0, help="part of the full counts")
    arguments = parser.parse_args()
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup ignores it, and a trial would as well
    print(f"{platform.machine()}, Python {platform.python_version()}, torch {torch.__version__}\n")
    print("| fault | tried | " + " | ".join(KINDS) + " | seconds |\n|---|" + "---|" * (len(KINDS) + 2))
    bad = []
    for group, count in FULL.items():
        if arguments.groups and group.__name__ not in arguments.groups:
            continue
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            tally = group(Path(folder), max(2, round(count * arguments.part)))
        print(f"{tally.row()} {time.monotonic() - tally.seconds:.0f} |", flush=True)
        bad += [f"{tally.name}: {each}" for each in tally.bad]
    print("\n" + "\n".join(bad))


if __name__ == "__main__":
    main()

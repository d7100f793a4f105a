"""What every committed result says of its origin: date, commit, machine, versions, command."""

import datetime
import platform
import shlex
import subprocess
import sys
from pathlib import Path

import torch


def processor() -> str:
    """The name of the processor, as far as the system tells it."""
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def commit() -> str:
    """The commit that is measured, marked where the package has changed since."""
    try:
        found, changed = (
            subprocess.run(["git", *words], capture_output=True, text=True, check=True).stdout.strip()
            for words in (["rev-parse", "--short", "HEAD"], ["status", "--porcelain", "--", "rnn_lightning"])
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return found + (" with changes" if changed else "")


def publish(title: str, parts: list[str], output: Path | None, *conditions: str) -> None:
    """Print a report, and write it to a file if one is given; ``conditions`` stand beside its origin."""
    origin = [
        datetime.datetime.now(datetime.UTC).date().isoformat(),
        f"commit {commit()}",
        processor(),
        f"Python {platform.python_version()}",
        f"PyTorch {torch.__version__}",
        *conditions,
    ]
    report = "\n\n".join(
        [f"# {title}", ", ".join(origin) + ".", f"Command: `python {shlex.join(sys.argv)}`", *parts]
    )
    print(report)
    if output is not None:
        output.write_text(report + "\n")

"""The native kernel under the address and undefined-behaviour sanitizers. Run it from the root.

    python benchmarks/sanitize.py --output benchmarks/results/sanitize.md

A copy of the package with a sanitized library runs the tests of the kernel, of gaps, of the closed loop and
of the seasonal network. The allocator of PyTorch is the sanitizer's as well, so that a step over the end of a
tensor is found.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from report import publish

TESTS = (
    "native/test_native.py",
    "native/test_recurrence.py",
    "native/test_seasonal_kernel.py",
    "pretrained/test_seasonal.py",
    "test_recurrent.py",
    "test_closed_loop.py",
)
FLAGS = "-O2 -g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all -shared -fPIC"


def output_of(command: list[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def sanitized(folder: Path, compiler: str) -> Path:
    """A copy of the package in a folder, with its library built by the compiler."""
    shutil.copytree(
        "rnn_lightning", folder / "rnn_lightning", ignore=shutil.ignore_patterns("*.so", "__pycache__")
    )
    native = folder / "rnn_lightning" / "native"
    command = [
        compiler,
        *FLAGS.split(),
        "-Wall",
        "-Wextra",
        "-Wno-psabi",
        "-Werror",
        "rnn.c",
        "seasonal.c",
        "-o",
        "_rnn.abi3.so",
    ]
    subprocess.run([*command, "-lm", "-lpthread"], cwd=native, check=True)
    shutil.copytree("tests", folder / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy("pyproject.toml", folder)
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--compiler", default="gcc", help="a compiler with both sanitizers")
    parser.add_argument("--output", type=Path, help="file to write the result to; printed in any case")
    arguments = parser.parse_args()
    libraries = [
        output_of([arguments.compiler, f"-print-file-name=lib{name}.so"])
        for name in ("asan", "ubsan", "stdc++")
    ]
    with tempfile.TemporaryDirectory() as name:
        folder = sanitized(Path(name), arguments.compiler)
        environment = {
            **os.environ,
            "LD_PRELOAD": " ".join(libraries),
            "ASAN_OPTIONS": "detect_leaks=0",  # Python itself leaves memory behind
            "UBSAN_OPTIONS": "print_stacktrace=1",
            "PYTHONPATH": name,
        }
        tests = [f"tests/{test}" for test in TESTS]
        run = subprocess.run(
            [
                sys.executable,
                "-m",
                "pytest",
                "-q",
                "-p",
                "no:cacheprovider",
                "--durations=0",
                "-k",
                "not torch",
                *tests,
            ],
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
        )
    print(run.stdout[-4000:])
    if run.returncode:
        sys.exit(run.returncode)
    parts = [
        f"Flags: `{FLAGS}`, with warnings as errors.",
        f"Tests: {', '.join(TESTS)}, on all instruction sets, without those of the path of PyTorch: "
        f"{run.stdout.strip().splitlines()[-1].strip('= ')}. No sanitizer had anything to report: it would "
        "have ended the run.",
    ]
    version = output_of([arguments.compiler, "--version"]).splitlines()[0]
    publish("The native kernel under sanitizers", parts, arguments.output, version)


if __name__ == "__main__":
    main()

"""The tests of the native kernel with the kernel of another processor or compiler. Run it from the root.

    apt-get install qemu-user gcc-aarch64-linux-gnu
    python benchmarks/arm.py --output benchmarks/results/arm.md
    python benchmarks/arm.py --compiler "zig cc -target x86_64-linux-gnu" --runner ""

Python and PyTorch stay on this processor. The library is built for the other one beside
``remote_kernel.c``, and each call of it, with all arrays, goes to an emulator and back. So the tests compare
what it computes with the operators of PyTorch, as they do for the library of this machine.
"""

import argparse
import contextlib
import ctypes
import io
import shlex
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from report import publish
from sanitize import TESTS as KERNEL_TESTS

from rnn_lightning.native import calls, library

TESTS = (*KERNEL_TESTS, "test_golden.py")
LEFT_OUT = "not AVX and not [torch and not environment_variable and not without_a_kernel"
FLAGS = "-O3 -g0 -std=gnu11 -fno-math-errno -ffp-contract=fast -Wno-psabi -Wall -Wextra -Werror -static"
"""Those of ``setup.py``, with warnings as errors."""

FUNCTIONS = (
    *("rnn_saved", "rnn_forward", "rnn_backward"),
    *("seasonal_state", "seasonal_saved", "seasonal_forward", "seasonal_backward"),
    *("rnn_activations", "rnn_instruction_set"),
)
"""In the order of ``remote_kernel.c``."""

NUMBER, MEMORY, POINTERS = range(3)


class RemoteKernel:
    """The library in another process: its functions take the tasks of this one.

    Attributes:
        sizes: bytes behind each address that may stand in a task.
        lists: the addresses in each array of pointers.
        counts: number of calls of each function.
    """

    def __init__(self, command: list[str]) -> None:
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.sizes, self.lists = dict[int, int](), dict[int, list[int]]()
        self.counts, self.lock = dict.fromkeys(FUNCTIONS, 0), threading.Lock()

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            with self.lock:
                return self._call(name, *arguments)

        return call

    def pointer(self, tensor: Any) -> int | None:
        """Stand in for ``calls.pointer``."""
        address = None if tensor is None else tensor.data_ptr() or None
        if address is not None:
            self.sizes[address] = max(tensor.nbytes, self.sizes.get(address, 0))
        return address

    def pointers(self, tensors: Any) -> Any:
        """Stand in for ``calls.pointers``."""
        addresses = [self.pointer(tensor) or 0 for tensor in tensors]
        array = (ctypes.c_void_p * len(tensors))(*addresses)
        self.lists[ctypes.addressof(array)] = addresses
        return array

    def _call(self, name: str, *arguments: Any) -> Any:
        sent, pieces = io.BytesIO(), list[tuple[int, int]]()
        words = list(self._words(name, *arguments))
        for number in (FUNCTIONS.index(name), len(words)):
            sent.write(library.INT(number))
        for kind, value, size in words:
            self._write(sent, pieces, kind, value, size)
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(sent.getbuffer())
        self.process.stdin.flush()
        result = int.from_bytes(self.process.stdout.read(8), sys.byteorder, signed=True)
        for address, size in pieces:
            ctypes.memmove(address, self.process.stdout.read(size), size)
        self.counts[name] += 1
        if name.endswith("ward"):  # what comes later may lie at the same addresses
            self.sizes.clear()
            self.lists.clear()
        return b"baseline" if name == "rnn_instruction_set" else result

    def _write(
        self, sent: io.BytesIO, pieces: list[tuple[int, int]], kind: int, value: int, size: int
    ) -> None:
        sent.write(library.INT(kind))
        sent.write(library.INT(value if kind == NUMBER else size))
        if kind == MEMORY:
            sent.write(ctypes.string_at(value, size))
            pieces.append((value, size))
        elif kind == POINTERS:
            for address in self.lists[value]:
                known = self.sizes.get(address, 0)
                self._write(sent, pieces, MEMORY if known else NUMBER, address, known)

    def _words(self, name: str, *arguments: Any) -> Iterator[tuple[int, int, int]]:
        """The words of a task, or the arguments of another function: kind, value or address, size."""
        if name == "rnn_instruction_set":
            yield NUMBER, arguments[0], 0
        elif name == "rnn_activations":
            yield NUMBER, arguments[0], 0
            for address in arguments[1:]:
                yield MEMORY, address, 4 * arguments[0]
        else:
            (task,) = arguments
            for field, kind in task._fields_:
                value = int.from_bytes(
                    bytes(task)[(at := getattr(type(task), field).offset) : at + 8], "little"
                )
                if kind is library.INT or value == 0:
                    yield NUMBER, value - (value >> 63 << 64), 0
                elif field == "mixed":
                    yield MEMORY, value, 8 * (task.mixed_levels + task.profiles + task.mixed_slopes)
                elif kind is library.POINTERS:
                    yield POINTERS, value, len(self.lists[value])
                else:
                    yield MEMORY, value, self.sizes[value]


@contextlib.contextmanager
def remote(command: list[str]) -> Iterator[RemoteKernel]:
    """Within it every call of the library goes to a process that ``command`` starts."""
    kernel = RemoteKernel(command)
    library.find.cache_clear()
    find = patch.object(library, "find", lambda: kernel)
    with (
        find,
        patch.object(calls, "pointer", kernel.pointer),
        patch.object(calls, "pointers", kernel.pointers),
    ):
        yield kernel
    kernel.process.kill()


class Outcomes:
    """What became of the tests."""

    def __init__(self) -> None:
        self.counts = dict.fromkeys(("passed", "failed", "skipped"), 0)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" or report.outcome != "passed":
            self.counts[report.outcome] += 1


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--compiler", default="aarch64-linux-gnu-gcc", help="a compiler for the processor")
    parser.add_argument("--runner", default="qemu-aarch64", help="what runs its programs; may be empty")
    parser.add_argument("--tests", nargs="+", default=TESTS, help="files in tests/")
    parser.add_argument("--output", type=Path, help="file to write the result to; printed in any case")
    arguments = parser.parse_args()
    compiler, runner = shlex.split(arguments.compiler), shlex.split(arguments.runner)
    outcomes, native = Outcomes(), Path("rnn_lightning/native")
    with tempfile.TemporaryDirectory() as folder:
        program = str(Path(folder, "kernel"))
        sources = ["benchmarks/remote_kernel.c", str(native / "rnn.c"), str(native / "seasonal.c")]
        flags = [*FLAGS.split(), f"-I{native}", "-o", program, "-lm", "-lpthread"]
        subprocess.run([*compiler, *sources, *flags], check=True)
        with remote([*runner, program]) as kernel:
            tests = [f"tests/{test}" for test in arguments.tests]
            code = pytest.main(
                ["-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-k", LEFT_OUT, *tests], [outcomes]
            )
    if code:
        sys.exit(code)
    made = ", ".join(f"{count:,} of `{name}`" for name, count in kernel.counts.items() if count)
    parts = [
        f"Flags: `{FLAGS}`.",
        f"Tests: {', '.join(arguments.tests)}: {outcomes.counts['passed']} passed, none failed. "
        f"Calls: {made}.",
    ]
    versions = [
        subprocess.run([*command[:1], "--version"], capture_output=True, text=True, check=False).stdout
        for command in (compiler, runner)
        if command
    ]
    publish(
        "The native kernel of another processor",
        parts,
        arguments.output,
        *(v.splitlines()[0] for v in versions if v),
    )


if __name__ == "__main__":
    main()

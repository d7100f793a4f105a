"""The native kernel, built where there is a C compiler, and the configs and tables that a wheel holds."""

import shutil
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_py import build_py

SOURCES = "rnn_lightning/native"
SHIPPED = {"configs": "*.yaml", "data": "*.csv"}


class BuildWithShipped(build_py):
    """Copies what stands at the top of the repository to where ``rnn_lightning/cli/shipped.py`` looks."""

    def run(self) -> None:
        super().run()
        for folder, pattern in {} if self.editable_mode else SHIPPED.items():
            target = Path(self.build_lib, "rnn_lightning", "_shipped", folder)
            target.mkdir(parents=True, exist_ok=True)
            for path in Path(folder).glob(pattern):
                shutil.copy(path, target)


KERNEL = Extension(
    "rnn_lightning.native._rnn",
    [f"{SOURCES}/rnn.c", f"{SOURCES}/seasonal.c"],
    depends=[str(path) for path in Path(SOURCES).glob("*.h")],
    extra_compile_args=[
        "-O3",
        "-g0",
        "-std=gnu11",
        "-fno-math-errno",
        "-ffp-contract=fast",
        "-Wno-psabi",
    ],
    libraries=["m", "pthread"],
    py_limited_api=True,
    optional=True,
)

setup(
    ext_modules=[] if sys.platform == "win32" else [KERNEL],  # MSVC has no vectors of GNU C
    cmdclass={"build_py": BuildWithShipped},
    options={"bdist_wheel": {"py_limited_api": "cp311"}},  # one wheel for all versions of Python
)

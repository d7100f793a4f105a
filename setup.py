"""The native kernel, built where there is a C compiler; the package does without it elsewhere."""

from pathlib import Path

from setuptools import Extension, setup

SOURCES = "rnn_lightning/native"

setup(
    ext_modules=[
        Extension(
            "rnn_lightning.native._rnn",
            [f"{SOURCES}/rnn.c"],
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
    ],
    options={"bdist_wheel": {"py_limited_api": "cp311"}},  # one wheel for all versions of Python
)

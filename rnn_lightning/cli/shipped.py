"""The configs and tables that come with the package; nothing heavy is imported."""

import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from rnn_lightning.errors import InputError

CONFIGS_USAGE = "usage: configs [FOLDER] lists the configs of the package, or copies them into a folder."

PACKAGE = Path(__file__).parent.parent
SHIPPED = next((path for path in (PACKAGE / "_shipped", PACKAGE.parent) if (path / "configs").is_dir()), None)
"""The folder with ``configs`` and ``data``: in the wheel, or at the top of a checkout."""


def shipped_configs() -> dict[str, Path]:
    """Return the shipped configs by name."""
    return {} if SHIPPED is None else {path.stem: path for path in sorted(SHIPPED.glob("configs/*.yaml"))}


def find_configs(argv: Sequence[str]) -> list[str]:
    """Return the words of a command, in which ``--config sine`` is the path of the shipped config.

    A file in the working folder goes before it. The table of a shipped config is found beside it.
    """
    words: list[str] = []
    for word in argv:
        before = words[-1] if words else ""
        option, equals, name = word.partition("=") if word.startswith("--config=") else (before, "", word)
        path = shipped_configs().get(Path(name).stem)
        is_asked = option in ("-c", "--config") and Path(name).parent.name in ("", "configs")
        if path is None or not is_asked or Path(name).is_file():
            words.append(word)
            continue
        words.append(f"{option}={path}" if equals else str(path))
        table = re.search(r"path: (data/\S+)", path.read_text(encoding="utf-8"))
        if table and not Path(table[1]).exists():
            words.append(f"--data.series.path={path.parent.parent / table[1]}")
    return words


def list_configs(argv: Sequence[str]) -> str:
    """Return the list of the shipped configs, or copy them with their tables into a given folder."""
    if {"-h", "--help"} & {*argv}:
        return f"{CONFIGS_USAGE}\n"
    if SHIPPED is None or len(argv) > 1 or (argv and argv[0].startswith("-")):
        raise InputError("configs: the package has none." if SHIPPED is None else CONFIGS_USAGE)
    if not argv:
        return "".join(f"{name:16}{path}\n" for name, path in shipped_configs().items())
    copied = [*SHIPPED.glob("configs/*.yaml"), *SHIPPED.glob("data/*.csv")]
    targets = {path: Path(argv[0], path.parent.name, path.name) for path in copied}
    if found := [str(target) for target in targets.values() if target.exists()]:
        raise InputError(f"configs {argv[0]}: {found[0]} already exists: choose another folder.")
    for path, target in targets.items():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    return "".join(f"{target}\n" for target in targets.values())

"""Configs read ahead of the command line's own parser: an error is one line and names the row."""

from pathlib import Path
from typing import Any

import yaml

from rnn_lightning.errors import InputError

MOST_CHARACTERS = 10_000_000
"""A config may have this many characters, with what its aliases stand for."""

MOST_LEVELS = 100
"""A config may be nested this deeply."""

Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read_config(path: Path) -> dict[str, Any]:
    """The contents of a config in YAML or JSON; empty if there are none.

    Raises:
        InputError: if it cannot be read, is no mapping, or would expand beyond all measure.
    """
    try:
        if path.stat().st_size > MOST_CHARACTERS:
            raise InputError(f"--config {path}: {path.stat().st_size:,} bytes are no config.")
        text = path.read_text(encoding="utf-8")
        _require_bounded(text)
        config = yaml.load(text, Loader)
    except InputError:
        raise
    except UnicodeDecodeError as error:
        row = error.object.count(b"\n", 0, error.start) + 1
        raise InputError(f"--config {path}, row {row}: not text in UTF-8.") from error
    except OSError as error:
        raise InputError(f"--config {path}: cannot be read ({error.strerror}).") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InputError(f"--config {path}{_row(error)}: no valid YAML ({_problem(error)}).") from error
    if not isinstance(config, dict | None):
        raise InputError(f"--config {path}: a config says what each option is, as in 'model: {{cell: gru}}'.")
    return config or {}


def _require_bounded(text: str) -> None:
    """Refuse aliases that expand without end, before anything expands them."""
    sizes: dict[str, int] = {}  # of what an anchor stands for
    open_nodes: list[tuple[str | None, int]] = []
    total = 0
    for event in yaml.parse(text, Loader):
        if isinstance(event, yaml.CollectionStartEvent):
            open_nodes.append((event.anchor, total))
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = open_nodes.pop()
            if anchor is not None:
                sizes[anchor] = total - before
        elif isinstance(event, yaml.ScalarEvent):
            total += 1 + len(event.value)
            if event.anchor is not None:
                sizes[event.anchor] = 1 + len(event.value)
        elif isinstance(event, yaml.AliasEvent):
            if any(event.anchor == anchor for anchor, _ in open_nodes):
                raise yaml.composer.ComposerError(
                    None, None, f"*{event.anchor} stands for itself", event.start_mark
                )
            total += sizes.get(event.anchor, 0)
        if total > MOST_CHARACTERS or len(open_nodes) > MOST_LEVELS:
            raise yaml.composer.ComposerError(
                None, None, "it expands or nests beyond all measure", event.start_mark
            )


def _row(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    return f", row {mark.line + 1}" if mark is not None else ""


def _problem(error: Exception) -> str:
    said = (
        getattr(error, "problem", None)
        or getattr(error, "reason", None)
        or str(error)
        or type(error).__name__
    )
    return str(said).splitlines()[0][:200]

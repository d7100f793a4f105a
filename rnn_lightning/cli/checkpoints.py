"""Finding checkpoints, and reading them without trust: none of their code runs or is imported."""

import pickle
import stat
import zipfile
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rnn_lightning.errors import InputError

MOST_UNPACKED = 2
"""A checkpoint may unpack to this many times the size of its file; torch does not compress."""

CHECKPOINTS = "fit_*/checkpoints/*.ckpt"
"""Where the checkpoints of an experiment are."""

PARTS: dict[str, type | tuple[type, ...]] = {
    "rnn_lightning_version": str,
    "state_dict": dict,
    "hyper_parameters": dict,
    "datamodule_hyper_parameters": dict,
    "table_options": dict,
    "epoch": int,
    "global_step": int,
    "optimizer_states": list,
    "lr_schedulers": list,
    "callbacks": dict,
    "loops": dict,
}
"""The kinds of the parts of a checkpoint, where it has them."""


def newest_checkpoint(experiment_folder: Path, name: str) -> tuple[Path, dict[str, Any], list[str]]:
    """The ``best`` or ``last`` checkpoint of the newest fit; without validation, the last one is the best.

    One that cannot be read is passed over: the next is the other one of the same fit, then those of the fit
    before.

    Returns:
        The path, the checkpoint, and why newer ones were passed over.

    Raises:
        InputError: if there is none.
    """
    fits = []
    for folder in experiment_folder.glob("fit_*/checkpoints"):
        names = [name, "best" if name == "last" else "last"]
        paths = [path for path in (folder / f"{stem}.ckpt" for stem in names) if path.is_file()]
        if paths and (name == "best" or paths[0].stem == name):
            fits.append(paths)
    if not fits:
        raise InputError(
            f"no {name} checkpoint in {experiment_folder}/fit_*/checkpoints: run fit with the same "
            "--experiment first, or give --ckpt_path."
        )
    refused: list[str] = []
    for paths in sorted(fits, key=lambda paths: -paths[0].stat().st_mtime_ns):
        for path in paths:
            try:
                return path, read_checkpoint(path), refused
            except InputError as error:
                refused.append(str(error))
    raise InputError(f"no checkpoint in {experiment_folder} can be read: {refused[0]}")


def read_checkpoint(path: Path) -> dict[str, Any]:
    """A checkpoint of this project, with its integrity checked.

    Raises:
        InputError: if the file is missing, damaged, larger than it looks, of a newer version, or not one of
            ours.
    """
    if not path.exists():
        raise InputError(f"--ckpt_path {path}: no such file.")
    if not stat.S_ISREG(path.stat().st_mode):
        raise InputError(f"--ckpt_path {path}: not a file.")
    try:
        checkpoint = _unpacked(path)
    except InputError:
        raise
    except pickle.UnpicklingError as error:
        # The words of torch advise to switch its protection off.
        raise InputError(
            f"--ckpt_path {path}: damaged, or not a checkpoint (it holds more than numbers, text and "
            "tensors)."
        ) from error
    except Exception as error:  # whatever the bytes of a damaged file lead to
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise InputError(f"--ckpt_path {path}: damaged, or not a checkpoint ({reason}).") from error
    if not isinstance(checkpoint, dict) or "rnn_lightning_version" not in checkpoint:
        raise InputError(
            f"--ckpt_path {path}: a file of torch, but not a checkpoint that rnn-lightning wrote."
        )
    _require_parts(path, checkpoint)
    return checkpoint


def _unpacked(path: Path) -> Any:
    with zipfile.ZipFile(path) as archive:
        num_bytes = sum(member.file_size for member in archive.infolist())
        if num_bytes > MOST_UNPACKED * path.stat().st_size:
            raise InputError(
                f"--ckpt_path {path}: would unpack to {num_bytes:,} bytes, more than {MOST_UNPACKED} times "
                "its size: not a checkpoint that rnn-lightning wrote."
            )
        damaged = archive.testzip()
    if damaged is not None:
        raise zipfile.BadZipFile(f"wrong checksum of {damaged!r}")
    checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    for tensor in tensors_in(checkpoint):
        if tensor.is_meta or tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
            raise InputError(f"--ckpt_path {path}: a tensor of it claims more numbers than the file has.")
    return checkpoint


def tensors_in(value: Any) -> Iterator[Tensor]:
    """All tensors in nested containers, each container once."""
    waiting, seen = [value], set()
    while waiting:
        value = waiting.pop()
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, (dict, list, tuple, set)) and id(value) not in seen:
            seen.add(id(value))
            waiting += value.values() if isinstance(value, dict) else value


def _require_parts(path: Path, checkpoint: Mapping[str, Any]) -> None:
    """Refuse a checkpoint of a newer version, or without what every checkpoint has."""
    from rnn_lightning import __version__

    version = checkpoint["rnn_lightning_version"]
    if isinstance(version, str) and _numbers(version) > _numbers(__version__):
        raise InputError(
            f"--ckpt_path {path}: written by rnn-lightning {version[:40]!r}, and this is {__version__}: "
            "upgrade, or choose another checkpoint."
        )
    for name, kind in PARTS.items():
        if name in checkpoint and (
            not isinstance(checkpoint[name], kind) or isinstance(checkpoint[name], bool)
        ):
            raise InputError(f"--ckpt_path {path}: damaged, or not a checkpoint (wrong type of {name}).")
    weights = checkpoint.get("state_dict", {})
    if not weights or not all(isinstance(weight, Tensor) for weight in weights.values()):
        raise InputError(f"--ckpt_path {path}: damaged, or not a checkpoint (it holds no weights).")
    given = checkpoint.get("hyper_parameters", {})
    size = (given.get("num_features", 1), given.get("hidden_size"))
    readout = weights.get("network.readout.weight")
    is_plain = not (given.get("seasonal") or given.get("pretrained"))
    if is_plain and readout is not None and size[1] is not None and tuple(readout.shape) != size:
        raise InputError(
            f"--ckpt_path {path}: its weights are those of {tuple(readout.shape)} features and hidden "
            f"units, and its options say {size}: not a checkpoint that rnn-lightning wrote."
        )


def _numbers(version: str) -> list[int]:
    return [int(part) for part in version.split(".")[:3] if part.isdecimal() and len(part) < 9]


def option_defaults(
    path: Path, checkpoint: Mapping[str, Any], known: Mapping[str, Collection[str]], named: Collection[str]
) -> dict[str, Any]:
    """The options that a checkpoint holds, as defaults of the command line.

    Args:
        path: the checkpoint, for messages.
        checkpoint: what was read from it.
        known: the options that there are, of ``model`` and ``data``.
        named: what the user's own command line and configs say: a class outside of this package is imported
            only if it is among it.

    Raises:
        InputError: if the checkpoint has an unknown option, or names a class that the user does not.
    """
    defaults = {}
    for group, key in (("model", "hyper_parameters"), ("data", "datamodule_hyper_parameters")):
        for name, value in checkpoint.get(key, {}).items():
            if str(name).startswith("_") or name in ("num_features", "num_covariates"):
                continue
            if name not in known[group]:
                raise InputError(
                    f"--ckpt_path {path}: it has an option {group}.{str(name)[:60]!r} that this version "
                    "does not know: written by another version, or damaged."
                )
            defaults[f"{group}.{name}"] = value
    if "data.series" in defaults:
        _require_own_class(path, defaults["data.series"], named)
    return defaults


def _require_own_class(path: Path, series: Any, named: Collection[str]) -> None:
    if not isinstance(series, dict) or not {"class_path"} <= set(series) <= {"class_path", "init_args"}:
        raise InputError(f"--ckpt_path {path}: damaged, or not a checkpoint (wrong type of data.series).")
    name = series["class_path"]
    if isinstance(name, str) and (name.startswith("rnn_lightning.") or name in named):
        return
    raise InputError(
        f"--ckpt_path {path}: it names the class {str(name)[:100]!r}, which is no part of rnn-lightning and "
        f"would be imported. If you trust it, say so: --data.series {str(name)[:100]}"
    )


def require_state(
    expected: Mapping[str, Tensor], trained: Collection[str], checkpoint: Mapping[str, Any]
) -> None:
    """Refuse weights that are not those of the network: missing, too many, of other shapes, or not finite.

    The state of the optimizer must be of the same shapes as the weights.

    Args:
        expected: the state of the network.
        trained: the names of what is trained in it; the rest may be missing in a checkpoint of an older
            version.
        checkpoint: what was read.

    Raises:
        InputError: names the first of them.
    """
    given = checkpoint.get("state_dict", {})
    for name, weight in given.items():
        if name not in expected:
            raise InputError(f"the checkpoint has weights {str(name)[:80]!r} that the network does not have.")
        if weight.shape != expected[name].shape:
            raise InputError(
                f"the weights {name!r} of the checkpoint are {tuple(weight.shape)}, those of the network "
                f"{tuple(expected[name].shape)}."
            )
    for name in trained:
        if name not in given:
            raise InputError(f"the checkpoint lacks the weights {name!r} of the network.")
        if not bool(given[name].isfinite().all()):
            raise InputError(f"the weights {name!r} of the checkpoint are not finite numbers.")
    shapes = {weight.shape for weight in expected.values()} | {torch.Size([])}
    for tensor in tensors_in(checkpoint.get("optimizer_states")):
        if tensor.shape not in shapes:
            raise InputError(
                f"the checkpoint has the state of another optimizer: a tensor of {tuple(tensor.shape)}."
            )

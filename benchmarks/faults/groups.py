"""The kinds of faults; each group tries a number of them in a folder and returns its tally."""

import io
import itertools
import random
import shutil
import signal
import subprocess
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from trials import Ended, Tally, broken_files, ended, run, signalled, start

SMALL = [
    "--trainer.accelerator=cpu",
    "--trainer.enable_progress_bar=false",
    "--model.hidden_size=4",
    "--data.num_batches_per_epoch=10",
    "--data.series.num_series=3",
    "--data.series.num_steps=200",
]
FIT = ["fit", *SMALL, "--trainer.max_epochs=4"]
PREDICT = ["predict", "--trainer.enable_progress_bar=false", "--data.horizon=12", "--forecast.plot=false"]
LAST = "runs/default/fit_{}/checkpoints/last.ckpt"


def weights(path: Path) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = torch.load(path, weights_only=True)["state_dict"]
    return state


def equal(one: Path, other: Path) -> bool:
    """Whether two checkpoints hold the same weights, bit by bit."""
    if not (one.is_file() and other.is_file()):
        return False
    first, second = weights(one), weights(other)
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def forecast(folder: Path, experiment: str = "default", number: int = 0) -> pl.DataFrame | None:
    path = folder / f"runs/{experiment}/predict_{number}/forecast.csv"
    return pl.read_csv(path) if path.is_file() else None


def newest_checkpoint(folder: Path) -> Path:
    """The last checkpoint of the newest fit; none is there if no fit has come so far."""
    found = folder.glob("runs/default/fit_*/checkpoints/last.ckpt")
    return max(found, key=lambda path: path.stat().st_mtime_ns, default=folder / "none")


def num_logged(checkpoint: Path) -> int:
    """The number of rows of metrics beside the folder of a checkpoint."""
    path = checkpoint.parents[1] / "metrics.csv"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def fresh(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


def kills_of_fit(folder: Path, count: int) -> Tally:
    """A fit is killed at a random moment: all files are whole, and the resumed fit equals one without it."""
    tally, random_, within = Tally("kill -9 of fit, then resumed: bit equal"), random.Random(0), 0
    begin = time.monotonic()
    run(fresh(folder / "whole"), FIT)
    duration = time.monotonic() - begin
    for number in range(count):
        place = fresh(folder / str(number))
        signalled(place, FIT, signal.SIGKILL, random_.uniform(0.1, duration))
        broken, last = broken_files(place), place / LAST.format(0)
        within += last.exists()
        result = run(place, [*FIT, *(["--ckpt_path=last"] if last.exists() else [])])
        final = newest_checkpoint(place)
        tally.note(
            f"kill {number}", result, not broken and equal(final, folder / "whole" / LAST.format(0)), False
        )
        tally.leaves(place)
    tally.name += f" ({within} of them with a checkpoint to go on from)"
    return tally


def kills_of_predict(folder: Path, count: int) -> Tally:
    """A prediction is killed; what it leaves is whole or not there, and the next one is right."""
    tally, random_ = Tally("kill -9 of predict, then again"), random.Random(1)
    place = fresh(folder / "place")
    run(place, FIT)
    begin = time.monotonic()
    run(place, [*PREDICT[:-1]])
    duration, expected = time.monotonic() - begin, forecast(place)
    for number in range(count):
        signalled(place, PREDICT[:-1], signal.SIGKILL, random_.uniform(0.1, duration))
        partial = [
            path
            for path in place.rglob("forecast.csv")
            if not pl.read_csv(path).equals(expected)  # type: ignore[arg-type]
        ]
        result = run(place, PREDICT)
        newest = max(place.glob("runs/default/predict_*"), key=lambda path: path.stat().st_mtime_ns)
        right = (
            not partial
            and not broken_files(place)
            and forecast(newest.parents[2], number=_number(newest)) is not None
        )
        tally.note(f"kill {number}", result, right, False)
        tally.leaves(place)
    return tally


def _number(folder: Path) -> int:
    return int(folder.name.rpartition("_")[2])


def resumes(folder: Path, count: int) -> Tally:
    """Fits stopped by a signal and resumed equal those that were not, bit by bit."""
    tally, random_, within = Tally("stopped by a signal and resumed: bit equal"), random.Random(4), 0
    variants: list[tuple[str, list[str]]] = [
        ("plain", []),
        ("dropout", ["--model.num_layers=2", "--model.dropout=0.3"]),
        ("accumulation", ["--trainer.accumulate_grad_batches=3"]),
        ("free run", ["--model.free_run_weight=0.5"]),
        ("elsewhere", []),
    ]
    whole: dict[str, Path] = {}
    for number in range(count):
        name, options = variants[number % len(variants)]
        fit = [*FIT, *options, "--trainer.max_epochs=40"]
        if name not in whole:
            run(fresh(folder / f"whole {name}"), fit)
            whole[name] = folder / f"whole {name}" / LAST.format(0)
        place = fresh(folder / str(number))
        stop = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)[number // len(variants) % 3]
        num_rows = random_.uniform(0.05, 0.85) * num_logged(whole[name])
        signalled(place, fit, stop, 0, lambda: num_logged(place / LAST.format(0)) > num_rows)  # noqa: B023
        within += not equal(place / LAST.format(0), whole[name])
        last, there = place / LAST.format(0), place
        if name == "elsewhere":
            there = fresh(folder / f"{number} elsewhere")
        result = run(there, [*fit, *([f"--ckpt_path={last}"] if last.exists() else [])])
        final = newest_checkpoint(there)
        best = final.with_name("best.ckpt")
        right = equal(final, whole[name])
        right &= equal(best, whole[name].with_name("best.ckpt"))
        tally.note(f"{name} {number}", result, right, False)
        tally.leaves(there)
    tally.name += f" ({within} of them before the end)"
    return tally


def full_disks(folder: Path, count: int) -> Tally:
    """Fit and predict on ever larger disks: file systems where mounting is allowed, and file sizes.

    What ends well has written what it writes on a disk with room; what does not leaves whole files.
    """
    tally = Tally("full disk")
    source = fresh(folder / "source")
    run(source, FIT)
    run(source, [*PREDICT, f"--ckpt_path={LAST.format(0)}"])
    checkpoint, expected = source / LAST.format(0), forecast(source)
    trials = itertools.product(
        range(count), ("size", "mount"), (FIT, [*PREDICT, f"--ckpt_path={checkpoint}"])
    )
    for number, limit, words in trials:
        name = f"{words[0]} {limit} {number}"
        place, num_bytes = fresh(folder / name), 8192 * (1 + number) // (1 if limit == "mount" else 2)
        if limit == "mount" and not _mount(place, num_bytes):
            continue
        try:
            result = run_elsewhere(folder / f"said {name}", place, words, limit, num_bytes)
            broken = broken_files(place)
            if words is FIT:
                right = equal(place / LAST.format(0), checkpoint)
            else:
                made = forecast(place)
                right = made is not None and made.equals(expected)  # type: ignore[arg-type]
            tally.note(name, result, right and not broken)
            if broken and result.code:
                tally.counts["silently wrong"] += 1
                tally.bad.append(f"{place}: {broken}")
            tally.leaves(place)
        finally:
            if limit == "mount":
                subprocess.run(["umount", "-l", str(place)], check=False)
    return tally


def run_elsewhere(folder: Path, root: Path, words: list[str], limit: str, num_bytes: int) -> Ended:
    """Run with the runs on another disk, and what is said kept on this one."""
    fresh(folder)
    file_size = num_bytes if limit == "size" else None
    return run(folder, [*words, f"--trainer.default_root_dir={root / 'runs'}"], file_size)


def _mount(place: Path, num_bytes: int) -> bool:
    options = ["-o", f"size={num_bytes}"]
    done = subprocess.run(
        ["mount", "-t", "tmpfs", *options, "tmpfs", str(place)], check=False, capture_output=True
    )
    return done.returncode == 0


def corrupted_checkpoints(folder: Path, count: int) -> Tally:
    """A checkpoint cut, flipped, repacked or changed inside is refused, or does what the good one does."""
    tally, random_ = Tally("corrupted checkpoints"), random.Random(2)
    place = fresh(folder / "place")
    run(place, FIT)
    resume = [*FIT, "--trainer.max_epochs=5"]
    for words in (PREDICT, resume):
        run(place, [*words, f"--ckpt_path={LAST.format(0)}"])
    expected, resumed, whole = forecast(place), place / LAST.format(1), (place / LAST.format(0)).read_bytes()
    changes = list(_changes())
    for number in range(count):
        path = place / "bad.ckpt"
        kind = number % 4
        if kind == 0:
            path.write_bytes(whole[: random_.randrange(len(whole))])
        elif kind == 1:
            position = random_.randrange(len(whole))
            path.write_bytes(
                whole[:position]
                + bytes([whole[position] ^ (1 << random_.randrange(8))])
                + whole[position + 1 :]
            )
        else:
            changes[number // 2 % len(changes)](path, whole)
        words = PREDICT if number % 3 else resume
        before = len(list(place.glob("runs/default/predict_*")))
        result = run(place, [*words, "--ckpt_path=bad.ckpt"])
        made = forecast(place, number=before)
        right = equal(newest_checkpoint(place), resumed)
        if words is PREDICT:
            right = made is not None and made.equals(expected)  # type: ignore[arg-type]
        tally.note(f"{kind} {number}", result, right)
        tally.leaves(place)
        if (place / "hacked").exists():
            tally.counts["silently wrong"] += 1
            tally.bad.append(f"code of a checkpoint ran: {kind} {number}")
    return tally


def _changes() -> Iterator[Callable[[Path, bytes], None]]:
    """Ways to change what is inside of a checkpoint."""

    def edit(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path, bytes], None]:
        def apply(path: Path, whole: bytes) -> None:
            checkpoint = torch.load(io.BytesIO(whole), weights_only=True)
            change(checkpoint)
            torch.save(checkpoint, path)

        return apply

    first = "network.readout.weight"
    yield edit(lambda c: c["state_dict"].pop(first))
    yield edit(lambda c: c["state_dict"].update({first: torch.zeros(2, 2)}))
    yield edit(lambda c: c["state_dict"].update({first: torch.full_like(c["state_dict"][first], torch.nan)}))
    yield edit(lambda c: c["state_dict"].update(more=torch.zeros(1)))
    yield edit(lambda c: c["state_dict"].update({first: "text"}))
    yield edit(lambda c: c.update(rnn_lightning_version="99.0"))
    yield edit(lambda c: c.pop("rnn_lightning_version"))
    yield edit(lambda c: c.update(state_dict=None))
    yield edit(lambda c: c.update(hyper_parameters=[1]))
    yield edit(lambda c: c["hyper_parameters"].update(hidden_size="many"))
    yield edit(lambda c: c["hyper_parameters"].update(hidden_size=10**9))
    yield edit(lambda c: c["hyper_parameters"].update(unheard_of=1))
    yield edit(lambda c: c["datamodule_hyper_parameters"].update(series={"class_path": "evilmod.S"}))
    yield edit(
        lambda c: c["datamodule_hyper_parameters"].update(series={"class_path": "os.system", "init_args": {}})
    )
    yield edit(lambda c: c["datamodule_hyper_parameters"].update(context_length=-3))
    yield edit(lambda c: c["datamodule_hyper_parameters"].update(batch_size=[2]))

    def bomb(path: Path, _: bytes) -> None:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("archive/data.pkl", bytes(10**8))

    def member(path: Path, whole: bytes) -> None:
        path.write_bytes(whole.replace(b"data.pkl", b"data\xff\xfekl"))

    class Exploit:
        def __reduce__(self) -> Any:
            import os

            return os.mkdir, ("hacked",)

    def exploit(path: Path, whole: bytes) -> None:
        checkpoint = torch.load(io.BytesIO(whole), weights_only=True)
        torch.save({**checkpoint, "callbacks": Exploit()}, path)

    yield from (bomb, member, exploit)


def tables(folder: Path, count: int) -> Tally:
    """Tables with a fault each: refused in a line, or forecast with every id as it is."""
    tally, random_ = Tally("tables"), random.Random(3)
    fit = [
        "fit",
        "t.csv",
        *SMALL[:-2],
        "--trainer.max_epochs=1",
        "--data.context_length=12",
        "--data.scored_length=8",
    ]
    for number in range(count):
        place = fresh(folder / str(number))
        ids, rows = _table(number, random_)
        (place / "t.csv").write_bytes(rows)
        result = run(place, [*fit, "--data.horizon=4"])
        if result.code == 0:
            result = run(
                place, ["predict", "t.csv", "--trainer.enable_progress_bar=false", "--data.horizon=4"]
            )
        made = forecast(place, "t")
        right = result.code != 0 or (
            made is not None and (not ids or set(made["unique_id"].cast(str)) <= ids)
        )
        tally.note(f"table {number}", result, right)
        tally.leaves(place)
    return tally


def _table(number: int, random_: random.Random) -> tuple[set[str], bytes]:
    """The ids and the bytes of a table with fault ``number``."""
    hostile = [
        "=1+1",
        "../../x",
        "a\x1b[31mb",
        "\u202eabc",
        " lead",
        "N/A",
        "0012",
        "émile",
        "x" * 3000,
        "a,b",
        'q"q',
    ]
    ids = [hostile[number % len(hostile)].replace('"', '""'), "b"]
    rows = [[f'"{name}"', str(step), f"{random_.gauss(5, 1):.3f}"] for name in ids for step in range(60)]
    header, faults = "unique_id,ds,y", number // len(hostile) % 18
    row, stamps = random_.randrange(len(rows)), [f"2020-01-{1 + s % 28:02d}" for s in range(60)]
    if faults == 1:
        rows[row][2] = "abc"
    elif faults == 2:
        rows[row][2] = "1e400"
    elif faults == 3:
        rows[row][1] = "0000-01-01"
    elif faults == 4:
        rows[row][1] = ""
    elif faults == 5:
        rows.append(rows[row])
    elif faults == 6:
        rows[row] = rows[row][:2]
    elif faults == 7:
        header = "unique_id,ds,ds"
    elif faults == 8:
        rows[row][0] = '"unclosed'
    elif faults == 9:
        for each in rows[: random_.randrange(60)]:
            each[2] = ""
    elif faults == 10:
        random_.shuffle(rows)
    elif faults == 11:
        for step, each in enumerate(rows):
            each[1] = f"0001-01-{1 + step % 28:02d}"
    elif faults == 12:
        for step, each in enumerate(rows):
            each[1] = stamps[step % 60]
    elif faults == 13:
        rows[row][1] = "9" * 30
    elif faults == 14:
        header = ""
    elif faults == 15:
        rows = rows[: random_.randrange(3)]
    elif faults == 16:
        rows[row][2] = "inf"
    text = "\n".join([header, *map(",".join, rows)]) + "\n"
    data = text.encode("utf-16" if faults == 17 and number % 2 else "utf-8", "surrogatepass")
    if faults == 17 and not number % 2:
        data = data[: len(data) // 2] + b"\xff\x00\xfe" + data[len(data) // 2 :]
    return {name.replace('""', '"') for name in ids}, data


def numbers(folder: Path, count: int) -> Tally:
    """Values of extreme units, offsets and outliers: the forecast follows, or a line says why not."""
    tally = Tally("numerical extremes")
    steps = np.arange(240)
    base = np.sin(steps / 4) + 3
    expected: np.ndarray | None = None
    units = [
        1.0,
        *(10.0**power for power in (-300, -40, -36, -30, -25, -12, -6, 6, 12, 20, 25, 30, 33, 36, 38, 300)),
    ]
    for number in range(count):
        place, values, unit = fresh(folder / str(number)), base.copy(), 1.0
        kind = number - len(units)
        if kind < 0:
            unit = units[number]
            values = values * unit
        elif kind % 6 == 0:
            values[100 + kind] = 10.0 ** (6 + 2 * kind)
        elif kind % 6 == 1:
            values = values + 10.0 ** (kind + 2)
        elif kind % 6 == 2:
            values[-24:] = 0.0
        elif kind % 6 == 3:
            values[:] = 10.0 ** (kind - 20)
        elif kind % 6 == 4:
            values[kind:] = np.nan
        else:
            values = np.exp(steps / (40 - kind))
        text = "\n".join(
            f"{step},{value!r}" for step, value in zip(steps.tolist(), values.tolist(), strict=True)
        )
        (place / "t.csv").write_text("ds,y\n" + text.replace("nan", "") + "\n")
        result = run(place, ["fit", "t.csv", *SMALL[:-2], "--trainer.max_epochs=8"])
        if result.code == 0:
            said = result.said
            result = run(place, ["predict", "t.csv", *PREDICT[1:]])
            result.said = said + result.said
        made = forecast(place, "t")
        right = made is not None
        if made is not None and kind < 0:
            found = made["y"].to_numpy() / unit
            expected = found if expected is None else expected
            right = bool(np.abs(found - expected).max() < 0.05)
        elif made is not None:
            known = values[np.isfinite(values)]
            found, reach = made["y"].to_numpy(), 10 * (known.max() - known.min() + np.abs(known).max() * 1e-3)
            sane = (
                np.isfinite(found).all()
                and known.min() - reach <= found.min()
                and found.max() <= known.max() + reach
            )
            right = bool(sane) or "Warning" in result.said or "Note" in result.said
        tally.note(f"numbers {number} (unit {unit}, kind {kind})", result, right)
    return tally


def starts(folder: Path, count: int) -> Tally:
    """Commands that start at one instant in one experiment: every run has a folder of its own, whole."""
    tally = Tally("starts at one instant")
    place = fresh(folder / "place")
    run(fresh(folder / "source"), FIT)
    source, folders = folder / "source" / LAST.format(0), []
    processes = []
    for number in range(count):
        folders.append(fresh(folder / f"said {number}"))
        words = FIT if number % 2 else [*PREDICT, f"--ckpt_path={source}"]
        processes.append(start(folders[-1], [*words, f"--trainer.default_root_dir={place / 'runs'}"]))
    results = [ended(process, said) for process, said in zip(processes, folders, strict=True)]
    fits, predictions = (list(place.glob(f"runs/default/{name}_*")) for name in ("fit", "predict"))
    right = len(fits) == count // 2 and len(predictions) == count - count // 2
    right &= all(equal(path / "checkpoints/last.ckpt", source) for path in fits)
    right &= len({(path / "metrics.csv").read_bytes() for path in fits}) <= 1
    right &= len({(path / "forecast.csv").read_bytes() for path in predictions}) == 1
    for number, result in enumerate(results):
        tally.note(f"start {number}", result, right, False)
    tally.leaves(place)
    shutil.rmtree(place)
    return tally

"""Runs a model or plan and shows its outputs.

    planck run bert.plan --feeds feeds.npz --out outputs.npz
    planck run bert.plan --shape input_ids=1x32 --repeat 10

With --repeat the exit code is 1 if any run gives other bits than the first.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import time
import zipfile
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import planck
from planck.cli.errors import usage
from planck.cli.feeds import add_feed_options, make_feeds
from planck.cli.show import Block, Facts, Result, Table, Verdict, shape_text
from planck.cli.source import add_run_options, add_source_options, open_source, whole

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

HELP = "run a model or plan, show its outputs"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Source, feeds, where outputs go, how often to run."""
    add_source_options(parser)
    add_run_options(parser)
    add_feed_options(parser)
    parser.add_argument("--out", metavar="OUT.npz", help="save the outputs by name")
    parser.add_argument(
        "--repeat", type=whole, default=1, metavar="N", help="run N times: equal bits, and times"
    )


def run(options: argparse.Namespace) -> Result:
    """Runs. Errors: those of the plan and of its feeds."""
    plan = open_source(options).plan
    feeds = make_feeds(plan, options)
    outputs: dict[str, Array] = {}
    seconds: list[float] = []
    same = True
    for _ in range(options.repeat):
        start = time.perf_counter()
        again = plan.run(feeds)
        seconds.append(time.perf_counter() - start)
        same &= not outputs or all(again[n].tobytes() == a.tobytes() for n, a in outputs.items())
        outputs = outputs or again
    if options.out:
        save_npz(options.out, outputs)
    rows = [summary(name, array) for name, array in outputs.items()]
    best = 1e3 * min(seconds)
    data = {"source": options.source, "outputs": rows, "runs": len(seconds), "best_ms": best}
    data |= {"first_ms": 1e3 * seconds[0], "same_bits": same}
    return Result("planck.run", data, _blocks(data, options.out), ok=same)


def summary(name: str, array: Array) -> dict[str, Any]:
    """Name, dtype, shape, and what its numbers are like; NaN counts apart from all else."""
    import numpy as np

    facts: dict[str, Any] = {"name": name, "dtype": str(array.dtype), "shape": list(array.shape)}
    facts |= {"min": None, "max": None, "mean": None, "nan": 0, "infinite": 0}
    if array.dtype.kind in "OUS" or array.size == 0:
        return facts
    wide = array.astype(np.float64).ravel()
    numbers = wide[~np.isnan(wide)]
    finite = numbers[np.isfinite(numbers)]
    facts["nan"], facts["infinite"] = wide.size - numbers.size, numbers.size - finite.size
    if numbers.size:
        facts["min"], facts["max"] = float(numbers.min()), float(numbers.max())
    if finite.size:
        facts["mean"] = float(finite.mean())
    return facts


def save_npz(path: str, arrays: Mapping[str, Array]) -> None:
    """Writes an .npz file with any names; the old file stays until it is whole. Errors: FileError,
    UsageError.

    numpy.savez takes names as keywords, so a tensor called "file" would not do.
    """
    from numpy.lib import format as npy

    if wrong := [name for name, array in arrays.items() if array.dtype.hasobject]:
        raise usage(f"output '{wrong[0]}' is {arrays[wrong[0]].dtype}, which .npz cannot hold")
    partial = f"{path}.partial"
    try:
        with open(partial, "wb") as file, zipfile.ZipFile(file, "w") as archive:
            for name, array in arrays.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    npy.write_array(member, array, allow_pickle=False)
        os.replace(partial, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            os.unlink(partial)
        raise planck.FileError(f"cannot write '{path}': {error.strerror}") from error


def _blocks(data: dict[str, Any], out: str | None) -> list[Block]:
    def text(value: float | None) -> str:
        return "-" if value is None else f"{value:.6g}"

    rows = [
        (
            row["name"],
            row["dtype"],
            shape_text(row["shape"]),
            *(text(row[key]) for key in ("min", "max", "mean")),
            str(row["nan"]),
        )
        for row in data["outputs"]
    ]
    header = ("output", "dtype", "shape", "min", "max", "mean", "NaN")
    blocks: list[Block] = [Table(header, rows, left=3)]
    times = f"first run {data['first_ms']:.3f} ms"
    if data["runs"] > 1:
        times += f", best of {data['runs']} runs {data['best_ms']:.3f} ms"
    blocks.append(Facts([("time", times), *([("saved", out)] if out else [])]))
    if data["runs"] > 1:
        same = data["same_bits"]
        blocks.append(Verdict(same, f"{'the same' if same else 'other'} bits in every run"))
    return blocks

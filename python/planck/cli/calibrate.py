"""Measures what the tensors of a model hold over a data set, for int8 builds.

    planck calibrate resnet.onnx --data images.npz -o resnet.calibration
    planck calibrate resnet.onnx --data shards/ --method entropy --cache calibration.cache
    planck calibrate --load a.calibration b.calibration --scales scales.json

--data takes .npz files (arrays by input name, cut along the batch) and folders of them; nothing is
sampled, dropped or made up. --load merges the calibrations of shards instead of running the model:
the same bits in any order, and another method needs no new run. A calibration or its scales go to
`planck build --int8 --calib FILE`, a cache to TensorRT 8 and 10 too.
"""

from __future__ import annotations

import argparse
import functools
import math
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import planck
from planck.cli.errors import usage
from planck.cli.feeds import read_npz
from planck.cli.show import Block, Facts, Result, Table
from planck.cli.source import whole

HELP = "measure the ranges of a model's tensors, for int8"
METHODS = ("auto", "entropy", "minmax", "percentile", "mse", "legacy")
HEADER = "TRT-8600-EntropyCalibration2"
SLICE = 16  # samples of one run
Feeds = dict[str, Any]


def add_options(parser: argparse.ArgumentParser) -> None:
    """The model and its data, or calibrations; how thresholds are found; where results go."""
    several: dict[str, Any] = {"nargs": "+", "action": "extend", "default": []}
    parser.add_argument("model", metavar="MODEL", nargs="?", help="ONNX file")
    parser.add_argument("--data", metavar="FILE.npz", help="or a folder of them", **several)
    parser.add_argument("--load", metavar="FILE", help="calibrations to merge", **several)
    parser.add_argument("-o", "--out", metavar="FILE", help="the statistics: a calibration file")
    parser.add_argument("--scales", metavar="FILE.json", help="the scales as JSON")
    parser.add_argument("--cache", metavar="FILE", help="the scales as TensorRT's cache")
    parser.add_argument("--header", default=HEADER, help=f"of the cache (default {HEADER})")
    parser.add_argument("--method", choices=METHODS, help="default: auto, or that of --load")
    parser.add_argument("--percentile", type=float, default=99.99, help="of 100 (default 99.99)")
    parser.add_argument(
        "--zero-policy", choices=("skip", "keep"), default="skip", help="of entropy (default: skip)"
    )
    parser.add_argument(
        "--exact", action="store_true", help="two passes, for entropy as other tools have it"
    )
    parser.add_argument("--batch", type=whole, default=SLICE, help=f"of a run (default {SLICE})")
    parser.add_argument(
        "--ignore-nonfinite", action="store_true", help="leave NaN and infinities out, and count"
    )
    parser.add_argument(
        "--all-tensors", action="store_true", help="not only those that int8 layers read and write"
    )
    parser.add_argument("--threads", type=whole, metavar="N", help="default: affinity and cgroup")
    parser.add_argument(
        "--progress",
        action=argparse.BooleanOptionalAction,
        default=sys.stderr.isatty(),
        help="a bar on stderr; default: on a terminal",
    )


def run(options: argparse.Namespace) -> Result:
    """Calibrates or merges, and writes. Errors: UsageError, those of planck.calibrate."""
    if not (options.out or options.scales or options.cache):
        raise usage("the result would be lost", hint="-o FILE, --scales FILE.json or --cache FILE")
    calibration = _merged(options.load) if options.load else None
    if (calibration is None) == (not options.data):
        raise usage("a calibration needs either --data or --load")
    if calibration is None:
        if options.model is None:
            raise usage("--data needs a model", hint="planck calibrate MODEL --data FILE.npz")
        calibration = _measured(options)
    # A cache holds symmetric scales: asked for one, all results have them.
    grids = {"activation": "s8"} if options.cache else {}
    if options.load and options.method == "percentile":
        grids["percentile"] = options.percentile
    rows = calibration.table(options.method, **grids)
    scales = calibration.solve(options.method, **grids)
    written = _write(options, calibration, scales)
    data = _data(options, calibration, scales, rows, written)
    return Result("planck.calibrate", data, _blocks(data))


def _measured(options: argparse.Namespace) -> Any:
    return planck.calibrate(
        options.model,
        functools.partial(batches, options.data, options.batch),
        options.method or "auto",
        percentile=options.percentile,
        zero_policy=options.zero_policy,
        exact=options.exact,
        nonfinite="ignore" if options.ignore_nonfinite else "error",
        tensors="all" if options.all_tensors else None,
        progress=options.progress,
        threads=options.threads,
    )


def _merged(paths: list[str]) -> Any:
    first, *others = [planck.Calibration.load(path) for path in paths]
    for other in others:
        first = first.merge(other)
    return first


def batches(paths: list[str], size: int) -> Iterator[Feeds]:
    """Feeds of at most `size` samples, of all files in order.

    Errors: FileError, FeedError (no .npz, extents of the batch that differ), UsageError (no files).
    """
    for path in _files(paths):
        arrays = read_npz(path)
        counts = {array.shape[0] for array in arrays.values() if array.ndim}
        if len(counts) != 1:
            shapes = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
            raise usage(
                f"the arrays of '{path}' differ in their first extent: {shapes}",
                kind=planck.FeedError,
            )
        [count] = counts
        for start in range(0, count, size):
            yield {name: array[start : start + size] for name, array in arrays.items()}


def _files(paths: list[str]) -> Iterator[str]:
    for path in paths:
        if not os.path.isdir(path):
            yield path
            continue
        inside = sorted(str(file) for file in Path(path).glob("*.npz"))
        if not inside:
            raise usage(f"the folder '{path}' has no .npz files")
        yield from inside


def _write(options: argparse.Namespace, calibration: Any, scales: planck.Scales) -> dict[str, str]:
    """Writes what was asked for; what it is, with its path."""
    written: dict[str, str] = {}
    if options.out:
        calibration.save(options.out)
        written["calibration"] = options.out
    if options.scales:
        scales.to_json(options.scales)
        written["scales"] = options.scales
    if options.cache:
        scales.to_trt_cache(options.cache, options.header)
        written["cache"] = options.cache
    return written


def _data(
    options: argparse.Namespace,
    calibration: Any,
    scales: planck.Scales,
    rows: Any,
    written: dict[str, str],
) -> dict[str, Any]:
    return {
        "model": options.model,
        "model_hash": calibration.model_hash,
        "samples": calibration.samples,
        "batches": calibration.batches,
        "bytes": calibration.bytes_read,
        "method": scales.method,
        "skipped": list(calibration.skipped),
        "notes": list(scales.notes),
        "written": written,
        "tensors": [
            {
                "name": row.grid.name,
                "dtype": row.grid.dtype,
                "scale": float(row.grid.scale[0]),
                "zero_point": int(row.grid.zero_point[0]),
                "threshold": row.grid.threshold,
                "note": row.grid.note,
                **{k: getattr(row, k) for k in ("count", "zeros", "nonfinite", "min", "max")},
                **{k: getattr(row, k) for k in ("clipped", "sqnr_db", "lost_db")},
            }
            for row in rows
        ],
    }


def _blocks(data: dict[str, Any]) -> list[Block]:
    read = f"{data['samples']} samples in {data['batches']} batches, {data['bytes']} bytes read"
    facts = [
        ("data", read),
        ("method", data["method"]),
        *(("wrote", f"{kind}: {path}") for kind, path in data["written"].items()),
        *(("note", note) for note in data["notes"]),
    ]
    rows = [
        (
            row["name"],
            f"{row['dtype']}{row['zero_point']:+d}",
            *(_number(row[key]) for key in ("min", "max", "threshold", "clipped")),
            f"{row['sqnr_db']:.1f}",
        )
        for row in data["tensors"]
    ]
    header = ("tensor", "grid", "min", "max", "threshold", "clipped", "SQNR dB")
    return [Facts(facts), Table(header, rows, "tensors", left=2)]


def _number(value: float | None) -> str:
    return "-" if value is None or math.isnan(value) else f"{value:.4g}"

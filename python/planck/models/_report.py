"""Runs a plan on the gate feeds of its model, and tabulates it against ONNX Runtime."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from planck.models import _registry, tables, vilbert
from planck.models._optional import require
from planck.models._weights import Array

if TYPE_CHECKING:
    from planck.plan import Plan

Arrays = Mapping[str, Array]
Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Gate:
    """How a model is judged.

    row(feeds, shape, ms, got, want) makes a row of the table from the outputs of the plan and of
    the reference.
    """

    shapes: Sequence[Shape]
    row: Callable[[Arrays, Shape, float, Arrays, Arrays], Any]
    table: Callable[[Sequence[Any]], str]


def _vilbert_row(feeds: Arrays, shape: Shape, ms: float, got: Arrays, want: Arrays) -> Any:
    logits = got["vision_logit"], want["vision_logit"]
    return tables.vilbert_row(ms, *logits, vilbert.targets(feeds), feeds["image_mask"])


def _wenet(part: tables.Part, outputs: tuple[str, str]) -> Gate:
    def row(feeds: Arrays, shape: Shape, ms: float, got: Arrays, want: Arrays) -> Any:
        pairs = ([arrays[name] for name in outputs] for arrays in (got, want))
        return tables.wenet_row((shape[0], shape[1]), ms, *pairs)

    shapes = list(itertools.product((1, 4, 16), (16, 64, 256)))
    return Gate(shapes, row, lambda rows: tables.wenet_table(part, rows))


GATES = {
    "vilbert": Gate([(b,) for b in (8, 16, 32, 64, 128, 256)], _vilbert_row, tables.vilbert_table),
    "wenet_encoder": _wenet("encoder", ("encoder_out", "encoder_out_lens")),
    "wenet_decoder": _wenet("decoder", ("decoder_out", "best_index")),
}


def report(
    plan: Plan,
    name: str,
    model: Path | None,
    size: str,
    shapes: Sequence[Shape] | None,
    seed: int,
    warmups: int,
    runs: int,
) -> str:
    """Return the table of a model; see planck.models.report for the arguments and errors."""
    if name not in GATES:
        raise ValueError(f"{name!r} has no table; the models with one are " + ", ".join(GATES))
    if warmups < 0 or runs < 1:
        raise ValueError(
            f"warmups is {warmups} and runs {runs}, but must be at least 0 and at least 1"
        )
    gate = GATES[name]
    reference = _reference(Path(plan.report["model"]) if model is None else model)
    rows = []
    for shape in gate.shapes if shapes is None else shapes:
        feeds = _registry.feeds(name, shape, seed, size, {})
        ms, got = _timed(plan, feeds, warmups, runs)
        rows.append(gate.row(feeds, shape, ms, got, reference(feeds)))
    return gate.table(rows)


def _timed(plan: Plan, feeds: Arrays, warmups: int, runs: int) -> tuple[float, Arrays]:
    """Mean time of a run in ms, and the outputs; they are written in place while time is taken."""
    outputs = plan.run(feeds)
    for _ in range(warmups):
        plan.run(feeds, outputs)
    start = time.perf_counter()
    for _ in range(runs):
        plan.run(feeds, outputs)
    return (time.perf_counter() - start) / runs * 1000, outputs


def _reference(path: Path) -> Callable[[Arrays], Arrays]:
    """ONNX Runtime with optimisations off, on the model at `path`."""
    ort = require("onnxruntime", "onnxruntime", "the reference of a report")
    if not path.is_file():
        raise ValueError(f"a report needs the ONNX file: pass model=... ('{path}' is no file)")
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [port.name for port in session.get_outputs()]
    return lambda feeds: dict(zip(names, session.run(names, dict(feeds)), strict=True))

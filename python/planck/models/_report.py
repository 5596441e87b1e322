"""Runs a plan on the gate feeds of its model, and tabulates it against ONNX Runtime."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from planck.models import _registry, dab_detr, tables, vilbert
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
    the reference; good(rows) is the verdict on the whole table. shapes: the published grid;
    mini_shapes: where the small model takes others. samples: feeds a shape, with seeds that
    follow one another; the first `uncounted` of them make no row. compares: `want` is looked at.
    """

    shapes: Sequence[Shape]
    row: Callable[[Arrays, Shape, float, Arrays, Arrays], Any]
    table: Callable[[Sequence[Any]], str]
    good: Callable[[Sequence[Any]], bool]
    mini_shapes: Sequence[Shape] | None = None
    samples: int = 1
    uncounted: int = 0
    compares: bool = True
    lines: Callable[[Sequence[Any]], Sequence[Any]] = list  # of the table, from its rows

    def grid(self, size: str) -> Sequence[Shape]:
        """The shapes of a model of this size."""
        return self.mini_shapes if size == "mini" and self.mini_shapes else self.shapes

    def feeds(
        self, name: str, size: str, shape: Shape, seed: int, samples: int | None = None
    ) -> Iterator[Arrays]:
        """The feeds that count, one after another; `samples` stands for the gate's own count."""
        count = self.samples if samples is None else samples + self.uncounted
        for i in range(self.uncounted, count):
            yield _registry.feeds(name, shape, seed + i, size, {})


def _vilbert_row(feeds: Arrays, shape: Shape, ms: float, got: Arrays, want: Arrays) -> Any:
    logits = got["vision_logit"], want["vision_logit"]
    return tables.vilbert_row(ms, *logits, vilbert.targets(feeds), feeds["image_mask"])


def _wenet(part: tables.Part, outputs: tuple[str, str]) -> Gate:
    def row(feeds: Arrays, shape: Shape, ms: float, got: Arrays, want: Arrays) -> Any:
        pairs = ([arrays[name] for name in outputs] for arrays in (got, want))
        return tables.wenet_row((shape[0], shape[1]), ms, *pairs)

    return Gate(
        list(itertools.product((1, 4, 16), (16, 64, 256))),
        row,
        lambda rows: tables.wenet_table(part, rows),
        lambda rows: all(row.good(part) for row in rows),
    )


GATES = {
    "vilbert": Gate(
        [(b,) for b in (8, 16, 32, 64, 128, 256)],
        _vilbert_row,
        tables.vilbert_table,
        lambda rows: all(row.agrees for row in rows),
    ),
    "wenet_encoder": _wenet("encoder", ("encoder_out", "encoder_out_lens")),
    "wenet_decoder": _wenet("decoder", ("decoder_out", "best_index")),
    "dab_detr": Gate(
        [(1, *dab_detr.CONFIGS["full"].image)],
        lambda feeds, shape, ms, got, want: tables.detr_image(ms, got, want),
        tables.detr_table,
        lambda images: all(row.good for row in tables.detr_rows(images)),
        mini_shapes=[(1, *dab_detr.CONFIGS["mini"].image)],
        lines=tables.detr_rows,
        samples=105,
        uncounted=5,
    ),
    "bert_encoder": Gate(
        [(b, 16) for b in (1, 8, 16, 32, 64, 128, 256)],
        lambda feeds, shape, ms, got, want: tables.sweep_row((shape[0], shape[1]), ms),
        tables.sweep_table,
        lambda rows: all(tables.sweep_good(rows)),
        compares=False,
    ),
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
    path = Path(plan.report["model"]) if model is None else model
    reference = _reference(path) if gate.compares else lambda feeds: {}
    rows = []
    for shape in gate.grid(size) if shapes is None else shapes:
        for i, feeds in enumerate(gate.feeds(name, size, shape, seed)):
            if i == 0:  # the others take as long
                ms, got = _timed(plan, feeds, warmups, runs)
            else:
                got = plan.run(feeds)
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

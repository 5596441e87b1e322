"""The published tables of reference models: Planck beside its peers, on models written here.

Every engine runs the same feeds; the reference is ONNX Runtime with its optimisations off. Each
engine has ten warm-ups and thirty timed runs or more; latencies are medians.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import planck
import planck.models
from planck.cli.compare import problem_of
from planck.cli.errors import require, usage
from planck.cli.measure import Engine, Here, Latency, race, worker
from planck.cli.peers import PEERS, REFERENCE, Problem
from planck.cli.show import Block, Facts, Result, Table, Verdict, note
from planck.cli.source import Source, how_it_runs, whole

if TYPE_CHECKING:
    from planck.models._report import Arrays, Gate, Shape

TABLES = {
    "wenet": ("wenet_encoder", "wenet_decoder"),
    "vilbert": ("vilbert",),
    "dab_detr": ("dab_detr",),
    "bert": ("bert_encoder",),
}
WARMUPS = 10
LEAST = 3  # runs of a round: thirty in the ten rounds that are usual


@dataclass
class Column:
    """What one engine reached on a model: rows of the table, and latencies by shape."""

    engine: str
    version: str
    rows: list[Any] = field(default_factory=list)
    latencies: dict[Shape, Latency] = field(default_factory=dict)


@dataclass
class Part:
    """One model of a table."""

    name: str
    plan: planck.Plan
    gate: Gate
    columns: dict[str, Column] = field(default_factory=dict)
    gflop: dict[Shape, float] = field(default_factory=dict)

    @property
    def good(self) -> bool:
        """The verdict on Planck's rows."""
        return self.gate.good(self.columns["planck"].rows)


def add_options(parser: argparse.ArgumentParser) -> None:
    """--table, --size, --grid and --samples."""
    group = parser.add_argument_group("tables", "the published table of a model written here")
    group.add_argument("--table", choices=tuple(TABLES))
    group.add_argument("--size", choices=("full", "mini"), default="full", help="default: full")
    group.add_argument(
        "--grid",
        metavar="1x16,4x64",
        help="shapes in place of the published: batch (vilbert), or batch x length",
    )
    group.add_argument("--samples", type=whole, metavar="N", help="pictures (dab_detr: 100)")


def run(options: argparse.Namespace) -> Result:
    """Writes, builds and measures the models of a table. Errors: UsageError, those of a build."""
    from planck.models._report import GATES

    if options.source is not None:
        raise usage(f"--table writes its own model, so '{options.source}' has no use")
    gates = {name: GATES[name] for name in TABLES[options.table]}
    if any(gate.compares for gate in gates.values()):
        require("onnxruntime", f"the reference of --table {options.table}")
    peers = installed_peers(options.peers)
    with tempfile.TemporaryDirectory(prefix="planck-") as folder:
        parts = [_part(name, gate, Path(folder), peers, options) for name, gate in gates.items()]
    good = all(part.good for part in parts)
    return Result("planck.table", _data(parts, options), _blocks(parts, options, good), ok=good)


def installed_peers(text: str | None) -> list[str]:
    """The peers asked for (None: all) that are installed; a note tells of the others."""
    names = list(PEERS) if text is None else [name.strip() for name in text.split(",")]
    found = []
    for name in dict.fromkeys(filter(None, names)):
        if name not in PEERS:
            raise usage(f"there is no peer '{name}'", expected="some of " + ", ".join(PEERS))
        if importlib.util.find_spec(name) is None:
            note(f"{name} is not installed and left out (pip install {name})")
        else:
            found.append(name)
    return found


def parse_grid(text: str) -> list[Shape]:
    """Shapes such as 1x16,4x64. Errors: UsageError."""
    shapes = [tuple(part.strip().split("x")) for part in text.split(",")]
    for shape in shapes:
        if not all(e.isascii() and e.isdigit() and 0 < len(e) < 7 and int(e) for e in shape):
            raise usage(f"--grid '{text}' is no list of shapes", expected="such as 1x16,4x64")
    return [tuple(map(int, shape)) for shape in shapes]


def _part(
    name: str, gate: Gate, folder: Path, peers: Sequence[str], options: argparse.Namespace
) -> Part:
    path = folder / f"{name}.onnx"
    planck.models.write(name, path, size=options.size)
    plan = planck.build(
        path,
        precision=options.precision or "graph",
        limits=options.limits or "default",
        threads=options.threads,
        denormals=options.denormals,
        progress=options.progress,
    )
    part = Part(name, plan, gate)
    grid = parse_grid(options.grid) if options.grid else gate.grid(options.size)
    for shape in grid:
        _measure(part, shape, peers, options)
    return part


def _measure(part: Part, shape: Shape, peers: Sequence[str], options: argparse.Namespace) -> None:
    """Adds a row to each engine's column, or one for each sample."""
    samples = _samples(part, shape, options)
    path = str(part.plan.report["model"])
    problem = problem_of(Source(part.plan, path, False, path), dict(samples[0]))
    wanted = _reference(part.gate, problem, samples)
    part.gflop[shape] = sum(step.flops for step in part.plan.trace(samples[0])) / 1e9
    with contextlib.ExitStack() as stack:
        engines: list[Engine] = [
            Here(in_place(part.plan), planck.__version__, samples[0], WARMUPS),
            *_workers(stack, peers, problem),
        ]
        race(engines, options.rounds, least=LEAST)
        for engine in engines:
            latency = engine.latency
            fresh = Column(latency.engine, latency.version)
            column = part.columns.setdefault(latency.engine, fresh)
            column.latencies[shape] = latency
            ms = latency.milliseconds()["median"]
            for feeds, want in zip(samples, wanted, strict=True):
                column.rows.append(part.gate.row(feeds, shape, ms, engine.outputs(feeds), want))
    times = (f"{e.latency.engine} {e.latency.milliseconds()['median']:.3f} ms" for e in engines)
    note(f"{part.name} {_shape_name(shape)}: " + ", ".join(times))


def _samples(part: Part, shape: Shape, options: argparse.Namespace) -> list[Arrays]:
    count = options.samples if part.gate.samples > 1 else None
    try:
        return list(part.gate.feeds(part.name, options.size, shape, options.seed, count))
    except ValueError as error:
        raise usage(f"--grid has {_shape_name(shape)}: {error}") from error


def _reference(gate: Gate, problem: Problem, samples: Sequence[Arrays]) -> list[Arrays]:
    """Outputs for each sample, from a process that ends before times are taken."""
    if not gate.compares:
        return [{} for _ in samples]
    with worker(REFERENCE, problem, warmups=1) as engine:
        return [engine.latency.outputs, *(engine.outputs(feeds) for feeds in samples[1:])]


def _workers(
    stack: contextlib.ExitStack, peers: Sequence[str], problem: Problem
) -> Iterator[Engine]:
    """The peers that can run this model; a note tells of the others."""
    for name in peers:
        try:
            yield stack.enter_context(worker(name, problem, WARMUPS))
        except planck.UsageError as error:
            note(f"{name} is left out: {error}")


def in_place(plan: planck.Plan) -> Any:
    """A call that writes each run's outputs over those of the run before."""
    outputs: dict[str, Any] | None = None

    def call(feeds: Arrays) -> Arrays:
        nonlocal outputs
        outputs = plan.run(feeds, outputs)
        return outputs

    return call


def _shape_name(shape: Shape) -> str:
    return "x".join(map(str, shape))


def _data(parts: Sequence[Part], options: argparse.Namespace) -> dict[str, Any]:
    return {
        "table": options.table,
        "size": options.size,
        "device": planck.device(),
        "isa": parts[0].plan.isa,
        "threads": parts[0].plan.threads,
        "denormals": parts[0].plan.denormals,
        "precision": parts[0].plan.precision,
        "rounds": options.rounds,
        "models": [
            {
                "model": part.name,
                "good": part.good,
                "gflop": {_shape_name(shape): part.gflop[shape] for shape in part.gflop},
                "engines": [_column(part.gate, column) for column in part.columns.values()],
            }
            for part in parts
        ],
    }


def _column(gate: Gate, column: Column) -> dict[str, Any]:
    latencies = {
        _shape_name(shape): {"runs": len(latency.seconds), **latency.milliseconds()}
        for shape, latency in column.latencies.items()
    }
    return {
        "engine": column.engine,
        "version": column.version,
        "good": gate.good(column.rows),
        "rows": [asdict(row) for row in gate.lines(column.rows)],
        "latency_ms": latencies,
    }


def _blocks(parts: Sequence[Part], options: argparse.Namespace, good: bool) -> list[Block]:
    plan = parts[0].plan
    facts = how_it_runs(plan)
    blocks: list[Block] = [
        Facts([("machine", str(planck.device()["cpu"])), ("plan", facts), ("size", options.size)])
    ]
    for part in parts:
        for column in part.columns.values():
            title = f"{part.name} by {column.engine} {column.version}"
            blocks.append(f"{title}\n{part.gate.table(column.rows)}")
        blocks.append(_beside(part))
    verdicts = (f"{part.name} {'good' if part.good else 'bad'}" for part in parts)
    blocks.append(Verdict(good, "planck: " + ", ".join(verdicts)))
    return blocks


def _beside(part: Part) -> Table:
    """Median latencies of all engines, with the rate of Planck's products."""
    names = list(part.columns)
    ours = part.columns["planck"].latencies
    rows = []
    for shape in ours:
        ms = ours[shape].milliseconds()["median"]
        cells = [_shape_name(shape), f"{part.gflop[shape]:.3g}", f"{part.gflop[shape] / ms:.3g}"]
        for name in names:
            latency = part.columns[name].latencies.get(shape)
            median = latency.milliseconds()["median"] if latency else None
            cells.append("-" if median is None else f"{median:.3f}")
            if name != "planck":
                cells.append("-" if median is None else f"{median / ms:.2f}")
        rows.append(cells)
    others = [cell for name in names if name != "planck" for cell in (name, "ratio")]
    header = ("shape, ms", "GFLOP", "TFLOP/s", "planck", *others)
    return Table(header, rows, f"{part.name}: latencies")

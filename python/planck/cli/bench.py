"""Measures latencies of a model or plan, alone or beside other engines.

    planck bench bert.plan --shape input_ids=1x128 --max-latency p99=50
    planck bench bert.onnx --shape input_ids=1x128 --peers onnxruntime,openvino
    planck bench --table wenet

Planck runs here and each peer in a process of its own; rounds alternate. The weights are warm:
every run touches what the run before has left in the caches. --table prints the published table of
a reference model, which it writes itself, beside every peer that is installed.
"""

from __future__ import annotations

import argparse
import math
from typing import Any

import planck
from planck.cli import tables
from planck.cli.compare import problem_of
from planck.cli.errors import require, usage
from planck.cli.feeds import add_feed_options, make_feeds
from planck.cli.measure import STATISTICS, Latency, batch_of, measure
from planck.cli.peers import PEERS
from planck.cli.show import Block, Facts, Result, Table, Verdict, shape_text
from planck.cli.source import (
    Source,
    add_run_options,
    add_source_options,
    how_it_runs,
    open_source,
    whole,
)

HELP = "measure latencies, alone or beside peers"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Source, feeds, peers, rounds, gate."""
    add_source_options(parser, optional=True)
    add_run_options(parser)
    add_feed_options(parser)
    tables.add_options(parser)
    parser.add_argument(
        "--peers", help=f"of {','.join(PEERS)}; default: none, for a table those installed"
    )
    parser.add_argument("--model", metavar="MODEL.onnx", help="for peers beside a plan")
    parser.add_argument("--rounds", type=whole, default=10, metavar="N", help="default 10")
    parser.add_argument(
        "--max-latency",
        metavar="[STATISTIC=]MS",
        help=f"exit 1 beyond it; {', '.join(STATISTICS)} (default median)",
    )


def run(options: argparse.Namespace) -> Result:
    """Measures. Errors: those of the plan and of its feeds; UsageError for a peer."""
    if options.table is not None:
        return tables.run(options)
    if options.source is None:
        raise usage("bench needs a model or a plan", hint="or --table NAME")
    peers = _peers(options.peers or "")
    gate = parse_gate(options.max_latency)
    source = open_source(options)
    if peers and source.model is None:
        raise usage("peers need the ONNX file beside a plan", hint="--model MODEL.onnx")
    feeds = make_feeds(source.plan, options)
    latencies = measure(
        source.plan.run,
        planck.__version__,
        peers,
        problem_of(source, feeds),
        options.rounds,
    )
    batch = batch_of(feeds)
    data: dict[str, Any] = {
        "source": options.source,
        "device": planck.device(),
        "isa": source.plan.isa,
        "threads": source.plan.threads,
        "denormals": source.plan.denormals,
        "precision": source.plan.precision,
        "batch": batch,
        "rounds": options.rounds,
        "feeds": {n: {"dtype": str(a.dtype), "shape": a.shape} for n, a in feeds.items()},
        "engines": [_row(latency, latencies[0], batch) for latency in latencies],
        "gate": None,
    }
    ok = True
    if gate is not None:
        reached = data["engines"][0]["latency_ms"][gate[0]]
        ok = reached <= gate[1]
        data["gate"] = {"statistic": gate[0], "limit_ms": gate[1], "reached_ms": reached}
    return Result("planck.bench", data, _blocks(data, source, ok), ok=ok)


def _peers(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in PEERS:
            raise usage(f"there is no peer '{name}'", expected="some of " + ", ".join(PEERS))
        require(name, f"--peers {name}")
    return list(dict.fromkeys(names))


def parse_gate(text: str | None) -> tuple[str, float] | None:
    """The statistic and its limit in milliseconds. Errors: UsageError."""
    if text is None:
        return None
    name, sign, value = text.partition("=")
    name, value = (name, value) if sign else ("median", text)
    try:
        limit = float(value)
    except ValueError:
        limit = math.nan
    if name not in STATISTICS or not limit > 0:
        raise usage(
            f"--max-latency is '{text}'",
            expected=f"MS or STATISTIC=MS with one of {', '.join(STATISTICS)}",
        )
    return name, limit


def _row(latency: Latency, planck_latency: Latency, batch: int) -> dict[str, Any]:
    """An engine's figures; `difference` is max|difference| / max|Planck| over all outputs."""
    row = latency.to_dict(batch)
    row["ratio"] = row["latency_ms"]["median"] / planck_latency.milliseconds()["median"]
    row["difference"] = _difference(latency, planck_latency)
    return row


def _difference(latency: Latency, reference: Latency) -> float:
    import numpy as np

    worst = 0.0
    for name, expected in reference.outputs.items():
        wide = expected.astype(np.float64)
        gap = np.abs(latency.outputs[name].astype(np.float64) - wide)
        if gap.size:
            worst = max(worst, float(gap.max() / (np.abs(wide).max() or 1.0)))
    return worst


def _blocks(data: dict[str, Any], source: Source, ok: bool) -> list[Block]:
    shapes = ", ".join(f"{n}{shape_text(f['shape'])}" for n, f in data["feeds"].items())
    rows = [
        (
            row["engine"],
            *(f"{row['latency_ms'][name]:.3f}" for name in STATISTICS),
            f"{row['rows_per_second']:.1f}",
            str(row["runs"]),
            f"{row['ratio']:.2f}",
            f"{row['difference']:.0e}",
        )
        for row in data["engines"]
    ]
    header = ("engine, ms", *STATISTICS, "rows/s", "runs", "ratio", "diff")
    facts = [("source", data["source"]), ("feeds", shapes)]
    facts += [("machine", data["device"]["cpu"]), ("plan", how_it_runs(source.plan))]
    blocks: list[Block] = [Facts(facts), Table(header, rows, "latency")]
    if gate := data["gate"]:
        text = f"{gate['statistic']} {gate['reached_ms']:.3f} ms, limit {gate['limit_ms']:g} ms"
        blocks.append(Verdict(ok, text))
    return blocks

"""Compares every tensor of a model with a reference, and says which layer lost accuracy.

    planck compare bert.plan --shape input_ids=1x32
    planck compare bert.onnx --reference onnxruntime --feeds feeds.npz --html report.html

The reference "double" evaluates the original model in double precision, from the plan alone. The
exit code is 1 if a tensor that the plan holds, or an output, is below the limit.
"""

from __future__ import annotations

import argparse
import html
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

import planck
from planck.build import Bar
from planck.cli.errors import require, usage
from planck.cli.feeds import add_feed_options, make_feeds, read_npz, symbol_sizes
from planck.cli.measure import Latency, batch_of, measure
from planck.cli.peers import Problem
from planck.cli.show import Block, Facts, Result, Table, Verdict, write_text
from planck.cli.source import (
    Source,
    add_run_options,
    add_source_options,
    is_plan,
    open_source,
    whole,
)
from planck.compare import HEADER, CompareReport

if TYPE_CHECKING:
    from planck.cli.feeds import Array

HELP = "compare every tensor with a reference"
ROUNDS, ROUND_S = 3, 0.1  # enough to see a latency; planck bench measures it
PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>planck</title>
<style>body {{ font: 14px sans-serif }} td, th {{ padding: 2px 8px; text-align: right }}
td:first-child, th:first-child {{ text-align: left; font-family: monospace }}</style>
</head><body><h1>{title}</h1>{body}</body></html>
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Source, feeds, reference, limit."""
    add_source_options(parser)
    add_run_options(parser)
    add_feed_options(parser)
    parser.add_argument(
        "--reference",
        default="double",
        metavar="REFERENCE",
        help="double (default), onnxruntime, tensors in FILE.npz, or OTHER.plan",
    )
    parser.add_argument("--model", metavar="MODEL.onnx", help="for onnxruntime beside a plan")
    parser.add_argument("--min-sqnr", type=float, metavar="DB", help="limit (fp32: 100)")
    parser.add_argument("--worst", type=whole, default=10, metavar="N", help="rows of the table")
    parser.add_argument("--html", metavar="FILE", help="the report as one page without scripts")


def run(options: argparse.Namespace) -> Result:
    """Compares and measures. Errors: those of planck.compare; UsageError."""
    if options.reference == "onnxruntime":
        for package in ("onnx", "onnxruntime"):
            require(package, "--reference onnxruntime")
    source = open_source(options)
    if options.reference == "onnxruntime" and source.model is None:
        raise usage("onnxruntime needs the ONNX file beside a plan", hint="--model MODEL.onnx")
    reference = _reference(options.reference)
    feeds = make_feeds(source.plan, options)
    with Bar(options.progress, "compare") as draw:
        report = planck.compare(
            source.plan,
            reference,
            feeds,
            model=source.model,
            min_sqnr_db=options.min_sqnr,
            progress=_only_fraction(draw),
        )
    latencies = _latencies(source, feeds, options)
    batch = batch_of(feeds)
    data = report.to_dict() | {
        "batch": batch,
        "latency": [latency.to_dict(batch) for latency in latencies],
        "per_output": _outputs(report),
    }
    if options.html:
        write_text(_page(report, data, options), options.html)
    kind = data.pop("kind")
    return Result(kind, data, _blocks(report, data, options.worst), ok=report.ok)


def _reference(text: str) -> Literal["double", "onnxruntime"] | dict[str, Array] | planck.Plan:
    if text == "double":
        return "double"
    if text == "onnxruntime":
        return "onnxruntime"
    if is_plan(text):
        return planck.load(text)
    if text.endswith(".npz"):
        return read_npz(text)
    raise usage(f"--reference is '{text}'", expected="double, onnxruntime, FILE.npz or OTHER.plan")


def _only_fraction(
    draw: Callable[[str, float], bool] | None,
) -> Callable[[float], object] | None:
    if draw is None:
        return None
    drawn = draw
    return lambda done: drawn("", done)


def _latencies(
    source: Source, feeds: dict[str, Array], options: argparse.Namespace
) -> list[Latency]:
    """Planck, and ONNX Runtime at its best if that is the reference."""
    peers = ["onnxruntime"] if options.reference == "onnxruntime" else []
    return measure(
        source.plan.run,
        planck.__version__,
        peers,
        problem_of(source, feeds),
        ROUNDS,
        ROUND_S,
    )


def problem_of(source: Source, feeds: dict[str, Array]) -> Problem:
    """What a peer needs to build and run the same model."""
    plan = source.plan
    sizes = symbol_sizes(plan.inputs, {name: array.shape for name, array in feeds.items()})
    outputs = tuple(port.name for port in plan.outputs)
    return Problem(source.model or "", feeds, sizes, outputs, plan.threads, plan.denormals)


def _outputs(report: CompareReport) -> list[dict[str, Any]]:
    rows = {row.name: row.cumulative for row in report.rows if row.name in report.outputs}
    return [
        {
            "name": name,
            "max_abs": rows[name].max_abs,
            "median_relative": rows[name].median_relative,
            "sqnr_db": rows[name].sqnr_db,
        }
        for name in report.outputs
        if name in rows
    ]


def output_table(data: dict[str, Any]) -> Table:
    """Largest absolute and median relative error of each output."""
    rows = [
        (row["name"], f"{row['max_abs']:.2e}", f"{row['median_relative']:.1e}")
        for row in data["per_output"]
    ]
    return Table(("output", "max abs", "med rel"), rows, "outputs")


def latency_facts(data: dict[str, Any]) -> Facts:
    """Latency and throughput of each engine."""
    rows = [("batch", str(data["batch"]))]
    for row in data["latency"]:
        median = row["latency_ms"]["median"]
        text = f"latency {median:.3f} ms, {row['rows_per_second']:.0f} rows/s"
        rows.append((row["engine"], f"{text} (median of {row['runs']})"))
    return Facts(rows)


def _blocks(report: CompareReport, data: dict[str, Any], worst: int) -> list[Block]:
    return [
        Table(HEADER, report.table(worst), "worst tensors", left=2),
        output_table(data),
        latency_facts(data),
        Verdict(report.ok, report.verdict),
    ]


def _page(report: CompareReport, data: dict[str, Any], options: argparse.Namespace) -> str:
    """One page: no script, nothing from the network, every string of the model escaped."""
    table = output_table(data)
    cells = "".join(f"<th>{html.escape(name)}</th>" for name in table.header)
    rows = "".join(
        "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>"
        for row in table.rows
    )
    facts = "".join(
        f"<p>{html.escape(label)}: {html.escape(text)}</p>"
        for label, text in latency_facts(data).rows
    )
    body = f"{report.to_html(options.worst)}<table><tr>{cells}</tr>{rows}</table>{facts}"
    return PAGE.format(title=html.escape(f"planck compare {options.source}"), body=body)

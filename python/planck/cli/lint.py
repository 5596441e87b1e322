"""Says why int8 is not faster: products that stayed float, steps that only convert, and why.

    planck lint bert.plan --feeds feeds.npz
    planck lint quantised.onnx --shape input=1x3x224x224 --json lint.json
    planck lint float.onnx --int8 --calib scales.json --feeds feeds.npz

With feeds (arrays, or random data of a --shape) the plan runs, and each step has the median of its
times. Without, times are estimates from the bytes that a step reads and writes. The exit code is 1
if integer products have less than --min-share of the time.
"""

from __future__ import annotations

import argparse
from typing import Any

import planck
from planck.cli.compare import PAGE
from planck.cli.errors import usage
from planck.cli.feeds import add_feed_options, make_feeds
from planck.cli.show import Block, Facts, Result, Table, Verdict, write_text
from planck.cli.source import add_run_options, add_source_options, is_plan, open_source, whole
from planck.int8_report import HEADER, PARTS, Int8Report

HELP = "say why int8 is not faster"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Source, feeds, what to show."""
    add_source_options(parser)
    add_run_options(parser)
    parser.add_argument("--int8", action="store_true", help="the same as --precision int8")
    parser.add_argument("--calib", metavar="FILE", help="scales or calibration of an int8 build")
    add_feed_options(parser)
    parser.add_argument("--runs", type=whole, default=5, metavar="N", help="timed runs")
    parser.add_argument("--rows", type=whole, default=20, metavar="N", help="rows of the table")
    parser.add_argument(
        "--min-share", type=_share, metavar="X", help="least share of integer products, 0 to 1"
    )
    parser.add_argument("--html", metavar="FILE", help="the report as one page without scripts")


def run(options: argparse.Namespace) -> Result:
    """Reports. Errors: those of planck.int8_report and of the source; UsageError."""
    plan = _plan(options)
    fed = bool(options.feeds or options.input or options.shape)
    feeds = make_feeds(plan, options) if fed else None
    report = planck.int8_report(plan, feeds, runs=options.runs)
    share = report.share("integer products")
    ok = options.min_share is None or share >= options.min_share
    if options.html:
        write_text(_page(report, options), options.html)
    data = report.to_dict() | {"verdict": report.verdict, "min_share": options.min_share}
    kind = data.pop("kind")
    return Result(kind, data, _blocks(report, options.rows, ok), ok=ok)


def _plan(options: argparse.Namespace) -> planck.Plan:
    if options.int8 and options.precision not in (None, "int8"):
        raise usage(f"--int8 and --precision {options.precision} contradict each other")
    if options.calib is None:
        if options.int8 and not is_plan(options.source):
            options.precision = "int8"
        return open_source(options).plan
    if is_plan(options.source):
        raise usage(f"--calib is for a build, and '{options.source}' is a plan")
    if not options.int8 and options.precision != "int8":
        raise usage("--calib is for int8 builds", hint="--int8 --calib FILE")
    scales = planck.import_scales(options.calib, "auto", options.source)
    return planck.build(
        options.source,
        precision="int8",
        scales=scales,
        limits=options.limits or "default",
        threads=options.threads,
        denormals=options.denormals,
        progress=options.progress,
    )


def _share(text: str) -> float:
    """A share. Errors: ArgumentTypeError."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 0 to 1")
    return value


def _blocks(report: Int8Report, rows: int, ok: bool) -> list[Block]:
    parts = [
        (
            part,
            str(report.steps[part]),
            f"{report.microseconds[part]:.1f}",
            f"{report.share(part):.1%}",
        )
        for part in PARTS
    ]
    how = (
        f"median of {report.runs} runs"
        if report.measured
        else f"estimates: bytes at {report.gigabytes_per_second:.1f} GB/s; --feeds measures"
    )
    facts: list[tuple[str, str]] = [("plan", report.plan), ("times", how)]
    blocks: list[Block] = [
        Facts(facts),
        Table(("part", "steps", "us", "share"), parts, "where time goes"),
    ]
    if report.rows:
        cells: list[Any] = [(*row[:3], row[5], *row[3:5]) for row in report.table(rows)]
        header = (*HEADER[:3], HEADER[5], *HEADER[3:5])
        blocks.append(Table(header, cells, "what is not an integer product", left=4))
    return [*blocks, Verdict(ok, report.verdict)]


def _page(report: Int8Report, options: argparse.Namespace) -> str:
    import html

    body = report.to_html(options.rows)
    return PAGE.format(title=html.escape(f"planck lint {options.source}"), body=body)

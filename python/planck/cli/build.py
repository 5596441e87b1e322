"""Builds a plan from an ONNX model and saves it.

The plan file holds no code and serves every shape that the model allows; `planck.load` maps it.
"""

from __future__ import annotations

import argparse
import os
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

import planck
from planck.cli.errors import usage
from planck.cli.show import Block, Facts, Result, Table, Verdict, size_text
from planck.cli.source import add_build_options

HELP = "build a plan from a model and save it"


def add_options(parser: argparse.ArgumentParser) -> None:
    """The model, how it is built, where the plan goes."""
    parser.add_argument("model", metavar="MODEL", help="ONNX file")
    parser.add_argument("-o", "--out", metavar="PLAN", help="default: MODEL with .plan")
    add_build_options(parser)
    parser.add_argument(
        "--fallback",
        choices=("reference", "error"),
        default="reference",
        help="for an op without a kernel (default: reference)",
    )
    parser.add_argument(
        "--strict",
        action="store_true",
        help="exit 1 and save nothing if a step did not get the precision that was asked",
    )
    parser.add_argument(
        "--disable", action="append", default=[], metavar="PASS", help="leave a pass out"
    )


def run(options: argparse.Namespace) -> Result:
    """Builds and saves. Errors: those of planck.build and Plan.save; UsageError."""
    out = options.out or os.path.splitext(options.model)[0] + ".plan"
    if (
        os.path.exists(out)
        and os.path.exists(options.model)
        and os.path.samefile(out, options.model)
    ):
        raise usage(f"the plan would overwrite the model '{options.model}'", hint="-o PLAN")
    start = time.perf_counter()
    plan = planck.build(
        options.model,
        precision=options.precision or "graph",
        threads=options.threads,
        fallback=options.fallback,
        disabled_passes=options.disable,
        limits=options.limits or "default",
        progress=options.progress,
    )
    seconds = time.perf_counter() - start
    broken = broken_contract(plan.steps) if options.strict else []
    saved = not broken
    if saved:
        plan.save(out)
    data = _data(plan, options.model, out if saved else None, seconds, broken)
    return Result("planck.build", data, _blocks(data), ok=not broken)


def broken_contract(steps: Sequence[planck.Step]) -> list[dict[str, Any]]:
    """Steps that were given another precision than was asked."""
    return [
        {"step": i, "op": s.op, "asked": s.asked, "given": s.given, "nodes": list(s.nodes)}
        for i, s in enumerate(steps)
        if s.asked != s.given
    ]


def refusal_rows(plan: planck.Plan) -> list[dict[str, str]]:
    """Fusions that did not fire, with their reasons."""
    keys = ("pass", "node", "reason")
    return [dict(zip(keys, row, strict=True)) for row in plan.report["refusals"]]


def _data(
    plan: planck.Plan, model: str, out: str | None, seconds: float, broken: list[dict[str, Any]]
) -> dict[str, Any]:
    report = plan.report
    kernels = Counter((step.family, step.kernel) for step in plan.steps)
    return {
        "model": model,
        "plan": out,
        "plan_bytes": os.path.getsize(out) if out else None,
        "sha256": plan.sha256,
        "precision": plan.precision,
        "isa": plan.isa,
        "onnx_nodes": report["onnx_nodes"],
        "steps": len(plan.steps),
        "constant_bytes": plan.constant_bytes,
        "seconds": seconds,
        "refusals": refusal_rows(plan),
        "broken_contract": broken,
        "kernels": [
            {"family": family, "kernel": kernel, "steps": count}
            for (family, kernel), count in sorted(kernels.items())
        ],
    }


def _blocks(data: dict[str, Any]) -> list[Block]:
    size = size_text(data["plan_bytes"]) if data["plan"] else ""
    blocks: list[Block] = [
        Facts(
            [
                ("model", data["model"]),
                ("plan", f"{data['plan']}, {size}" if data["plan"] else "not saved"),
                ("sha256", data["sha256"]),
                ("nodes", f"{data['onnx_nodes']} ONNX nodes -> {data['steps']} steps"),
                ("precision", f"{data['precision']}, kernels for {data['isa']}"),
                ("time", f"{data['seconds']:.2f} s"),
                ("refusals", f"{len(data['refusals'])} fusions did not fire (planck inspect)"),
            ]
        ),
        Table(
            ("family", "kernel", "steps"),
            [(row["family"], row["kernel"], str(row["steps"])) for row in data["kernels"]],
            "kernels",
            left=2,
        ),
    ]
    if broken := data["broken_contract"]:
        first = broken[0]
        text = f"{len(broken)} steps did not get the precision asked, first step {first['step']} "
        text += f"({first['op']}, asked {first['asked']}, given {first['given']}): nodes "
        blocks.append(Verdict(False, text + " + ".join(first["nodes"][:3])))
    return blocks

"""Builds a plan from an ONNX model and saves it.

The plan file holds no code and serves every shape that the model allows; `planck.load` maps it.

    planck build bert.onnx -o bert.plan
    planck build resnet.onnx --int8 --calib calibration.cache

--calib takes what `planck calibrate` writes, TensorRT's calibration cache, and the scale files of
other tools (ONNX Runtime, TAO, cuDLA, MQBench, AIMET, QAT buffers); what it was taken for is shown.
A model with Q/DQ nodes needs none.
"""

from __future__ import annotations

import argparse
import os
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

import planck
import planck.scale_files
from planck.cli.errors import usage
from planck.cli.show import Block, Facts, Result, Table, Verdict, size_text
from planck.cli.source import add_build_options

HELP = "build a plan from a model and save it"


def add_options(parser: argparse.ArgumentParser) -> None:
    """The model, how it is built, where the plan goes."""
    parser.add_argument("model", metavar="MODEL", help="ONNX file")
    parser.add_argument("-o", "--out", metavar="PLAN", help="default: MODEL with .plan")
    add_build_options(parser)
    parser.add_argument("--int8", action="store_true", help="the same as --precision int8")
    parser.add_argument("--calib", metavar="FILE", help="scales or calibration of an int8 build")
    parser.add_argument(
        "--calib-kind",
        choices=("auto", *planck.scale_files.scale_kinds()),
        default="auto",
        help="what FILE is (default: as its format says)",
    )
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
        "--no-inspect",
        action="store_true",
        help="leave out what compare and taps need: an int8 plan is then a third as large",
    )
    parser.add_argument(
        "--disable", action="append", default=[], metavar="PASS", help="leave a pass out"
    )


def run(options: argparse.Namespace) -> Result:
    """Builds and saves. Errors: those of planck.build and Plan.save; UsageError."""
    out = options.out or os.path.splitext(options.model)[0] + ".plan"
    if out == "-":
        raise usage("a plan goes to a file, not to stdout", hint="-o PLAN")
    if (
        os.path.exists(out)
        and os.path.exists(options.model)
        and os.path.samefile(out, options.model)
    ):
        raise usage(f"the plan would overwrite the model '{options.model}'", hint="-o PLAN")
    start = time.perf_counter()
    precision, scales = _quantization(options)
    more: dict[str, Any] = {} if scales is None else {"scales": scales}
    try:
        plan = planck.build(
            options.model,
            precision=precision,
            threads=options.threads,
            fallback=options.fallback,
            disabled_passes=options.disable,
            limits=options.limits or "default",
            inspectable=not options.no_inspect,
            progress=options.progress,
            **more,
        )
    except planck.PrecisionError as error:
        if precision == "int8" and scales is None:
            error.hint = "planck calibrate MODEL --data FILE.npz -o FILE, then --int8 --calib FILE"
        raise
    seconds = time.perf_counter() - start
    broken = broken_contract(plan.steps) if options.strict else []
    saved = not broken
    if saved:
        plan.save(out)
    data = _data(plan, options.model, out if saved else None, seconds, broken)
    data["scales"] = None if scales is None else scales_data(scales, options.calib)
    return Result("planck.build", data, _blocks(data), ok=not broken)


def _quantization(options: argparse.Namespace) -> tuple[Any, planck.Scales | None]:
    """Precision and scales. Errors: UsageError, those of planck.import_scales."""
    if options.int8 and options.precision not in (None, "int8"):
        raise usage(f"--int8 and --precision {options.precision} contradict each other")
    precision = "int8" if options.int8 else options.precision or "graph"
    if options.calib is None:
        return precision, None
    if precision != "int8":
        raise usage("--calib is for int8 builds", hint="--int8 --calib FILE")
    return precision, planck.import_scales(options.calib, options.calib_kind, options.model)


def scales_data(scales: planck.Scales, path: str | None) -> dict[str, Any]:
    """What scales are, as plain values."""
    return {
        "file": path,
        "kind": scales.kind,
        "method": scales.method,
        "tensors": len(scales),
        "layers": len(scales.layers),
        "notes": list(scales.notes),
    }


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
    if scales := data["scales"]:
        text = f"{scales['tensors']} tensors, {scales['kind']}"
        notes = [("note", note) for note in scales["notes"]]
        blocks.insert(1, Facts([("scales", f"{scales['file']}: {text}"), *notes]))
    if broken := data["broken_contract"]:
        first = broken[0]
        text = f"{len(broken)} steps did not get the precision asked, first step {first['step']} "
        text += f"({first['op']}, asked {first['asked']}, given {first['given']}): nodes "
        blocks.append(Verdict(False, text + " + ".join(first["nodes"][:3])))
    return blocks

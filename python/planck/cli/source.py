"""The model or plan that a command works on."""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import planck
from planck.arguments import DENORMALS
from planck.cli.errors import usage

MAGIC = b"\x89PLAN\r\n\x1a"
PRECISIONS = ("graph", "fp32", "fp32-fast", "tf32", "bf16", "fp16", "int8", "fp8", "auto")


@dataclass(frozen=True)
class Source:
    """A plan and the file that it came from; `model` is the ONNX file where it is known."""

    plan: planck.Plan
    path: str
    is_plan: bool
    model: str | None


def is_plan(path: str) -> bool:
    """Whether a file is to be read as a plan: by its first bytes, else by its name."""
    try:
        if Path(path).is_file():
            with open(path, "rb") as file:
                if file.read(len(MAGIC)) == MAGIC:
                    return True
    except OSError:
        pass  # opening it for real says what is wrong
    return path.endswith(".plan")


def whole(text: str) -> int:
    """A whole number, at least 1. Errors: ArgumentTypeError."""
    if not text.isascii() or not text.isdigit() or len(text) > 9 or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def add_build_options(parser: argparse.ArgumentParser) -> None:
    """Options of a build, for commands that take a model."""
    parser.add_argument("--precision", choices=PRECISIONS, help="default: as the graph says")
    parser.add_argument("--limits", choices=("default", "tight"), help="tight: for strangers")
    parser.add_argument("--threads", type=whole, metavar="N", help="default: affinity and cgroup")
    parser.add_argument(
        "--progress",
        action=argparse.BooleanOptionalAction,
        default=sys.stderr.isatty(),
        help="a bar on stderr; default: on a terminal",
    )


def add_source_options(parser: argparse.ArgumentParser, optional: bool = False) -> None:
    """A model or a plan, and how a model is built."""
    count: dict[str, Any] = {"nargs": "?"} if optional else {}
    parser.add_argument("source", metavar="MODEL_OR_PLAN", help="ONNX file, or plan file", **count)
    add_build_options(parser)


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """How a plan runs, for commands that run one."""
    parser.add_argument(
        "--denormals",
        choices=DENORMALS,
        default="compute",
        help="flush: subnormal numbers count as zeros (default: compute)",
    )


def how_it_runs(plan: planck.Plan) -> str:
    """Threads, precision, instruction set, and whether subnormal numbers are flushed."""
    text = f"{plan.threads} threads, {plan.precision}, kernels for {plan.isa}"
    return text + (", denormals flushed" if plan.denormals == "flush" else "")


def open_source(options: argparse.Namespace) -> Source:
    """Loads a plan, or builds one from a model. Errors: those of planck.load and planck.build."""
    path: str = options.source
    how = {"threads": options.threads, "denormals": getattr(options, "denormals", "compute")}
    model: str | None = getattr(options, "model", None)
    if is_plan(path):
        for name in ("precision", "limits"):
            if getattr(options, name) is not None:
                raise usage(f"--{name} is decided when a plan is built, and '{path}' is a plan")
        return Source(planck.load(path, **how), path, True, model)
    plan = planck.build(
        path,
        precision=options.precision or "graph",
        limits=options.limits or "default",
        progress=options.progress,
        **how,
    )
    return Source(plan, path, False, model or path)

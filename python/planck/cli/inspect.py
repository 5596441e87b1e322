"""Shows what is in a plan file, or in the plan that a model gives.

Header and sections of the file, inputs and outputs, steps with their kernels, passes, and why
fusions did not fire. A plan is checked in full as it is loaded, whoever wrote it.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import struct
from dataclasses import asdict
from typing import Any

import planck
from planck import _core
from planck.cli.build import refusal_rows
from planck.cli.errors import usage
from planck.cli.feeds import parse_shapes
from planck.cli.show import Block, Facts, Result, Table, shape_text, size_text
from planck.cli.source import add_source_options, is_plan, open_source

HELP = "show a plan: header, ports, steps, passes, refusals"
HEADER = struct.Struct("<8sHHIQIIQ16sQ")  # cpp/plan/file.cpp
SECTION = struct.Struct("<IIQQ16sQ")
KINDS = {1: "metadata", 2: "graph", 3: "weights", 0x50545254: "profiles"}  # the last: planck.trt
REQUIRED = 1  # flag of a section
LARGEST = 10  # tensors of --memory


def add_options(parser: argparse.ArgumentParser) -> None:
    """Source, and what to show beyond the summary."""
    add_source_options(parser)
    parser.add_argument("--layers", action="store_true", help="each step: nodes, losing kernels")
    parser.add_argument("--tensors", action="store_true", help="where each tensor is computed")
    parser.add_argument(
        "--memory",
        metavar="NAME=1x32",
        nargs="+",
        default=[],
        help="what a run on these shapes takes; an input that is left out follows the others",
    )
    parser.add_argument("--graph", action="store_true", help="a model's graph after all passes")


def run(options: argparse.Namespace) -> Result:
    """Loads or builds, and describes. Errors: those of planck.load and planck.build."""
    if options.graph and is_plan(options.source):
        raise usage("--graph shows the graph of a model; a plan has steps", hint="--layers")
    source = open_source(options)
    plan = source.plan
    data: dict[str, Any] = {
        "source": options.source,
        "file": plan_header(options.source) if source.is_plan else model_file(options.source),
        "precision": plan.precision,
        "isa": plan.isa,
        "packed_again": _why_packed_again(options.source) if source.is_plan else None,
        "onnx_nodes": plan.report["onnx_nodes"],
        "unused_nodes": list(plan.unused),
        "constant_bytes": plan.constant_bytes,
        "inputs": [_port(port) for port in plan.inputs],
        "outputs": [_port(port) for port in plan.outputs],
        "steps": [_step(step) for step in plan.steps],
        "passes": [{"name": n, "patches": patches} for n, patches, _ in plan.report["passes"]],
        "refusals": refusal_rows(plan),
    }
    if options.memory:
        names = [port.name for port in plan.inputs]
        shapes = dict(parse_shapes(options.memory, names, "--memory"))
        need = plan.memory(shapes)
        data["memory"] = {**asdict(need), "total_bytes": need.total_bytes}
    if options.tensors:
        data["tensors"] = _core.tensor_facts(plan._core)
    if options.graph:
        limits = {"precision": plan.precision, "limits": {"profile": options.limits or "default"}}
        data["graph"] = _core.graph_text(options.source, limits)
    return Result("planck.inspect", data, _blocks(data, options))


def _why_packed_again(path: str) -> str | None:
    """Why the kernels of the file cannot run here, so that load chose others; None if they can."""
    try:
        planck.load(path, repack="never", threads=1)
    except planck.TargetError as error:
        return str(error)
    return None


def plan_header(path: str) -> dict[str, Any]:
    """The facts of a plan file's header; the plan was loaded before. Errors: FileError."""
    try:
        with open(path, "rb") as file:
            fields = HEADER.unpack(file.read(HEADER.size))
            sections = [SECTION.unpack(file.read(SECTION.size)) for _ in range(fields[5])]
    except (OSError, struct.error) as error:
        raise planck.FileError(f"cannot read '{path}': {error}") from error
    _, major, minor, _, _, _, _, size, _, _ = fields
    return {
        "format": f"{major}.{minor}",
        "bytes": size,
        "sha256": sha256_of(path),
        "sections": [
            {
                "kind": KINDS.get(kind, str(kind)),
                "offset": offset,
                "bytes": length,
                "required": bool(flags & REQUIRED),
            }
            for kind, flags, offset, length, _, _ in sections
        ],
    }


def model_file(path: str) -> dict[str, Any]:
    """Size and digest of a model file. Errors: FileError."""
    return {"format": "onnx", "bytes": os.path.getsize(path), "sha256": sha256_of(path)}


def sha256_of(path: str) -> str:
    """SHA-256 of a file in hexadecimal. Errors: FileError."""
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            while piece := file.read(1 << 20):
                digest.update(piece)
    except OSError as error:
        raise planck.FileError(f"cannot read '{path}': {error.strerror}") from error
    return digest.hexdigest()


def _port(port: planck.Port) -> dict[str, Any]:
    return {"name": port.name, "dtype": port.dtype, "shape": list(port.shape)}


def _step(step: planck.Step) -> dict[str, Any]:
    return {
        "op": step.op,
        "family": step.family,
        "kernel": step.kernel,
        "asked": step.asked,
        "given": step.given,
        "nodes": list(step.nodes),
        "rejected": [{"kernel": kernel, "reason": reason} for kernel, reason in step.rejected],
    }


def _blocks(data: dict[str, Any], options: argparse.Namespace) -> list[Block]:
    file = data["file"]
    blocks: list[Block] = [
        Facts(
            [
                ("source", data["source"]),
                ("file", f"format {file['format']}, {size_text(file['bytes'])}"),
                ("sha256", file["sha256"]),
                ("kernels", data["isa"] + _after(": packed again, ", data["packed_again"])),
                ("precision", data["precision"]),
                ("nodes", f"{data['onnx_nodes']} ONNX nodes, {len(data['steps'])} steps"),
                ("constants", size_text(data["constant_bytes"])),
            ]
        ),
        *_file_table(file),
        _port_table(data),
        _step_table(data["steps"]),
        *(_layer_lines(i, step) for i, step in enumerate(data["steps"]) if options.layers),
        *_pass_tables(data),
    ]
    if options.memory:
        blocks += _memory_blocks(data["memory"])
    if options.tensors:
        blocks.append(_tensor_table(data["tensors"]))
    if options.graph:
        blocks.append(data["graph"].rstrip())
    return blocks


def _memory_blocks(need: dict[str, Any]) -> list[Block]:
    facts = [
        (
            "arena",
            f"{size_text(need['arena_bytes'])}, of it {size_text(need['packed_bytes'])} used",
        ),
        ("scratch", f"{size_text(need['scratch_bytes'])} for each of {need['threads']} threads"),
        ("weights", size_text(need["constant_bytes"])),
        ("inputs", size_text(need["input_bytes"])),
        ("outputs", size_text(need["output_bytes"])),
        ("together", size_text(need["total_bytes"])),
    ]
    rows = [
        (
            t["name"] or "(of the plan)",
            t["kind"],
            t["dtype"],
            shape_text(t["shape"]),
            str(t["bytes"]),
        )
        for t in need["tensors"][:LARGEST]
    ]
    header = ("tensor", "in", "dtype", "shape", "bytes")
    return [Facts(facts), Table(header, rows, "memory of a run: largest tensors", left=4)]


def _after(text: str, more: str | None) -> str:
    return text + more.splitlines()[0] if more else ""


def _file_table(file: dict[str, Any]) -> list[Block]:
    rows = [(s["kind"], str(s["offset"]), str(s["bytes"])) for s in file.get("sections", ())]
    return [Table(("section", "offset", "bytes"), rows, "sections of the file")] if rows else []


def _port_table(data: dict[str, Any]) -> Table:
    rows = [
        (way[:-1], port["name"], port["dtype"], shape_text(port["shape"]))
        for way in ("inputs", "outputs")
        for port in data[way]
    ]
    return Table(("port", "name", "dtype", "shape"), rows, "inputs and outputs", left=4)


def _step_table(steps: list[dict[str, Any]]) -> Table:
    rows = []
    for i, step in enumerate(steps):
        precision = " -> ".join(dict.fromkeys((step["asked"], step["given"])))
        last = step["nodes"][-1] if step["nodes"] else ""
        rows.append((str(i), step["op"], step["kernel"], precision, last, str(len(step["nodes"]))))
    header = ("step", "op", "kernel", "precision", "last node", "nodes")
    return Table(header, rows, "steps", left=5)


def _layer_lines(index: int, step: dict[str, Any]) -> Facts:
    rows = [(f"step {index}", f"{step['op']} by {step['kernel']}")]
    rows += [("  node", node) for node in step["nodes"]]
    rows += [("  not", f"{loser['kernel']}: {loser['reason']}") for loser in step["rejected"]]
    return Facts(rows)


def _pass_tables(data: dict[str, Any]) -> list[Block]:
    passes = [(row["name"], str(row["patches"])) for row in data["passes"] if row["patches"]]
    blocks: list[Block] = []
    if passes:
        blocks.append(Table(("pass", "patches"), passes, "passes that changed the graph"))
    if refused := [(r["pass"], r["node"], r["reason"]) for r in data["refusals"]]:
        blocks.append(Table(("pass", "node", "reason"), refused, "refusals", left=3))
    return blocks


def _tensor_table(tensors: list[dict[str, Any]]) -> Table:
    rows = [
        (
            t["name"],
            t["op_type"],
            t["kernel"],
            "held" if t["held"] else "in the step",
            str(t["step"]),
        )
        for t in tensors
    ]
    return Table(("tensor", "op", "kernel", "where", "step"), rows, "tensors", left=4)

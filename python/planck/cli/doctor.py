"""Looks at the machine and at the installation, and tests both with a small model.

The self-test builds a BERT of two layers, saves and loads its plan, and compares every tensor with
double precision. It needs the package onnx to write the model.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
import tempfile
import time
from pathlib import Path
from typing import Any

import planck
from planck.cli.errors import require
from planck.cli.show import Block, Facts, Result, Table, Verdict, size_text

HELP = "check machine and installation with a self-test"
PACKAGES = ("numpy", "ml_dtypes", "onnx", "onnxruntime", "openvino", "rich", "safetensors")
QUOTA = "/sys/fs/cgroup/cpu.max"
OLD_QUOTA = "/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "/sys/fs/cgroup/cpu/cpu.cfs_period_us"


def add_options(parser: argparse.ArgumentParser) -> None:
    """None of its own."""


def run(options: argparse.Namespace) -> Result:
    """Looks and tests. Errors: UsageError without onnx; what the self-test meets is the verdict."""
    device = planck.device()
    knobs = knob_rows()
    require("onnx", "the self-test")
    test = self_test()
    data = {
        "version": planck.__version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "device": device,
        "cpus": {
            "machine": os.cpu_count(),
            "affinity": _affinity(),
            "cgroup_quota": cgroup_quota(),
        },
        "packages": {name: _version(name) for name in PACKAGES},
        "knobs": knobs,
        "self_test": test,
    }
    return Result("planck.doctor", data, _blocks(data), ok=bool(test["ok"]))


def self_test() -> dict[str, Any]:
    """Build, save, load, run twice, compare; never raises for a failure of the engine."""
    start = time.perf_counter()
    facts: dict[str, Any] = {"ok": False}
    try:
        facts |= _check_mini_bert()
    except Exception as error:  # whatever it is, the machine is not well
        facts["failure"] = f"{type(error).__name__}: {error}"
    facts["seconds"] = time.perf_counter() - start
    return facts


def _check_mini_bert() -> dict[str, Any]:
    import planck.models

    with tempfile.TemporaryDirectory() as folder:
        model, saved = Path(folder) / "bert.onnx", Path(folder) / "bert.plan"
        planck.models.write("bert_encoder", model, size="mini")
        plan = planck.build(model)
        plan.save(saved)
        loaded = planck.load(saved, verify=True)
        feeds = planck.models.feeds("bert_encoder", (2, 16), size="mini")
        built, again = plan.run(feeds), loaded.run(feeds)
        same = all(again[name].tobytes() == array.tobytes() for name, array in built.items())
        report = planck.compare(loaded, "double", feeds)
    return {
        "ok": same and report.ok,
        "same_bits_after_load": same,
        "isa": loaded.isa,
        "threads": loaded.threads,
        "accuracy": report.verdict,
    }


def knob_rows() -> list[dict[str, Any]]:
    """Every knob: name, what the environment sets it to (None: nothing), its description."""
    rows = []
    for line in planck.knobs().splitlines():
        name, _, rest = line.partition(" ")
        if name:
            rows.append({"name": name, "set_to": os.environ.get(name), "text": rest})
    return rows


def cgroup_quota() -> float | None:
    """CPUs that the container's quota pays for; None without a quota."""
    try:
        quota, period = Path(QUOTA).read_text().split()
    except (OSError, ValueError):
        try:
            quota, period = (Path(path).read_text().strip() for path in OLD_QUOTA)
        except OSError:
            return None
    try:
        return int(quota) / int(period) if int(quota) > 0 else None
    except (ValueError, ZeroDivisionError):  # "max"
        return None


def _affinity() -> int:
    return len(os.sched_getaffinity(0))


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _blocks(data: dict[str, Any]) -> list[Block]:
    device, cpus, test = data["device"], data["cpus"], data["self_test"]
    quota = cpus["cgroup_quota"]
    caches = ", ".join(f"L{i} {size_text(device[f'l{i}_bytes'])}" for i in (1, 2, 3))
    threads = f"{device['cores']} (machine {cpus['machine']}, affinity {cpus['affinity']}, "
    threads += f"cgroup quota {'none' if quota is None else f'{quota:g}'})"
    packages = [(name, version or "not installed") for name, version in data["packages"].items()]
    knobs = [
        (row["name"], "-" if row["set_to"] is None else row["set_to"]) for row in data["knobs"]
    ]
    return [
        Facts(
            [
                ("planck", f"{data['version']}, Python {data['python']}"),
                ("system", data["system"]),
                ("cpu", f"{device['cpu']}, {device['isa']}"),
                ("caches", caches),
                ("threads", threads),
            ]
        ),
        Table(("package", "version"), packages, "packages", left=2),
        Table(("knob", "set to"), knobs, "environment", left=2),
        _verdict(test),
    ]


def _verdict(test: dict[str, Any]) -> Verdict:
    if "failure" in test:
        return Verdict(False, f"self-test: {test['failure']}")
    bits = "the same" if test["same_bits_after_load"] else "other"
    text = f"self-test in {test['seconds']:.1f} s: {bits} bits after save and load; "
    return Verdict(test["ok"], text + test["accuracy"])

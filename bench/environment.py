"""Describes the machine of a measurement; reads Linux files, and what is missing is None."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path
from typing import Any

from bench import masking
from bench.peers import ROOT, import_planck

CPU = Path("/sys/devices/system/cpu")
FLAGS: tuple[str, ...] = (
    "avx2",
    "fma",
    "f16c",
    "avx_vnni",
    "avx512f",
    "avx512bw",
    "avx512vl",
    "avx512_vnni",
)
FLAGS += ("avx512_bf16", "avx512_fp16", "amx_tile", "amx_int8", "amx_bf16")


def _read(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except OSError:
        return None


def _cpuinfo() -> dict[str, str]:
    """The first processor's lines of /proc/cpuinfo."""
    first = (_read(Path("/proc/cpuinfo")) or "").split("\n\n")[0]
    pairs = (line.partition(":") for line in first.splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}


def classify(flags: set[str]) -> str:
    """The class that goals are stated for: amx, avx512, avx2 or portable."""
    if {"amx_tile", "amx_bf16"} <= flags:
        return "amx"
    if "avx512f" in flags:
        return "avx512"
    return "avx2" if {"avx2", "fma"} <= flags else "portable"


def goal_classes() -> tuple[str, ...]:
    """Classes whose goals hold here, from general to special; later ones win.

    any, then the instruction set that Planck uses (PLANCK_MAX_ISA lowers it), then vnni where that
    one has byte products but no tiles. Without a working Planck: what the processor could run.
    """
    flags = set(_cpuinfo().get("flags", "").split())
    try:
        isa = str(import_planck().device()["isa"])
    except (ImportError, AttributeError, OSError):
        isa = classify(flags)
    return _classes(isa, flags)


def _classes(isa: str, flags: set[str]) -> tuple[str, ...]:
    unit = {"avx2": "avx_vnni", "avx512": "avx512_vnni"}.get(isa)
    return ("any", isa, *(["vnni"] if unit in flags else []))


def caches() -> dict[str, str]:
    """Size of each cache that CPU 0 sees, such as {"L1 Data": "32K"}."""
    found = {}
    for index in sorted((CPU / "cpu0/cache").glob("index*")):
        level, kind, size = (_read(index / name) for name in ("level", "type", "size"))
        found[f"L{level} {kind}"] = size or "unknown"
    return found


def pick_cpus(threads: int) -> tuple[int, ...]:
    """The CPUs that every engine is pinned to: the first `threads` of distinct cores, if enough.

    Fewer cores than threads: all CPUs that this process may use.
    """
    allowed = sorted(os.sched_getaffinity(0))
    seen: set[str] = set()
    chosen = []
    for cpu in allowed:
        core = _read(CPU / f"cpu{cpu}/topology/thread_siblings_list") or str(cpu)
        if core not in seen:
            seen.add(core)
            chosen.append(cpu)
    return tuple(chosen[:threads]) if len(chosen) >= threads else tuple(allowed)


def _revision() -> str | None:
    """Commit of this tree, with a plus sign when tracked files differ from it."""
    git = ["git", "-C", str(ROOT)]
    try:
        head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, check=False)
        diff = subprocess.run([*git, "diff", "--quiet", "HEAD"], capture_output=True, check=False)
    except OSError:
        return None
    return (
        head.stdout.decode().strip() + "+" * bool(diff.returncode) if head.returncode == 0 else None
    )


def record() -> dict[str, Any]:
    """CPU, caches, load and versions; sizes as the kernel prints them, load as three averages."""
    info = _cpuinfo()
    flags = set(info.get("flags", "").split())
    return {
        "cpu": info.get("model name", platform.processor() or "unknown"),
        "cpu_class": masking.hidden() or classify(flags),
        "goal_classes": list(goal_classes()),
        "flags": [flag for flag in FLAGS if flag in flags],
        "engines_limited_to": masking.hidden(),
        "cpus": os.cpu_count(),
        "affinity": sorted(os.sched_getaffinity(0)),
        "threads_per_core": _threads_per_core(),
        "caches": caches(),
        "governor": _read(CPU / "cpu0/cpufreq/scaling_governor"),
        "load_average": list(os.getloadavg()),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "revision": _revision(),
    }


def _threads_per_core() -> int | None:
    siblings = _read(CPU / "cpu0/topology/thread_siblings_list")
    if siblings is None:
        return None
    total = 0
    for part in siblings.split(","):
        first, _, last = part.partition("-")
        total += int(last or first) - int(first) + 1
    return total

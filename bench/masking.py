"""Measures a class of machine that is not at hand: engines that see no more than AVX2.

Planck has a knob for that, its peers have none (or one for a part of them), so that the processor
itself has to look smaller: mask_isa.c answers the CPUID instructions of their libraries. What runs
then is what the engines run on a machine of that class, at the clock and with the caches of this
one. Linux on x86-64, with a C compiler and objdump.

    python bench/models.py --isa avx2 --only resnet50
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import subprocess
from pathlib import Path

from bench.peers import ROOT

LEVELS = ("avx2",)
PACKAGES = ("onnxruntime", "openvino", "planck")
SOURCE = ROOT / "bench" / "mask_isa.c"
CACHE = ROOT / "build" / "masks"


class MaskError(RuntimeError):
    """This machine cannot hide its instruction sets; the message says why."""


def variables(level: str) -> dict[str, str]:
    """Environment of a process whose engines shall see `level`; builds what it takes, once.

    Raises MaskError without a compiler or objdump, and for a level that cannot be shown.
    """
    if level not in LEVELS:
        raise MaskError(f"engines can be limited to {', '.join(LEVELS)}, not to {level!r}")
    CACHE.mkdir(parents=True, exist_ok=True)
    return {
        "LD_AUDIT": str(_library()),
        "PLANCK_CPUID_SITES": str(_sites()),
        "PLANCK_MAX_ISA": level,
    }


def hidden() -> str | None:
    """The level that this process's engines are limited to by `variables`, if they are."""
    return os.environ.get("PLANCK_MAX_ISA") if "PLANCK_CPUID_SITES" in os.environ else None


def _run(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except FileNotFoundError:
        raise MaskError(f"limiting engines takes {command[0]}, which is not installed") from None
    except subprocess.CalledProcessError as error:
        raise MaskError(f"{command[0]} failed: {error.stderr.strip()[:400]}") from None
    return done.stdout


def _library() -> Path:
    digest = hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:12]
    path = CACHE / f"mask_isa-{digest}.so"
    if not path.exists():
        partial = path.with_suffix(".partial")
        flags = ("-O2", "-Wall", "-Wextra", "-shared", "-fPIC")
        _run("cc", *flags, "-o", str(partial), str(SOURCE))
        partial.rename(path)
    return path


def _libraries() -> list[Path]:
    """The packages' shared libraries, and Planck's where its module finds it, by real paths."""
    found = set()
    for package in PACKAGES:
        spec = importlib.util.find_spec(package)
        for folder in (spec.submodule_search_locations or []) if spec else []:
            found |= {path.resolve() for path in Path(folder).rglob("*.so*") if path.is_file()}
    for module in [path for path in found if path.name.startswith("_core.")]:
        needed = [line.split() for line in _run("ldd", str(module)).splitlines()]
        found |= {Path(row[2]).resolve() for row in needed if row[0] == "libplanck.so"}
    return sorted(found)


def _addresses(library: Path) -> list[str]:
    """Addresses of its CPUID instructions in hexadecimal; kept, as disassembly takes seconds."""
    state = library.stat()
    name = f"{library} {state.st_size} {state.st_mtime_ns}"
    cached = CACHE / f"{hashlib.sha256(name.encode()).hexdigest()[:16]}.sites"
    if not cached.exists():
        lines = _run("objdump", "-d", "--no-show-raw-insn", str(library)).splitlines()
        sites = [line.split(":")[0].strip() for line in lines if line.rstrip().endswith("\tcpuid")]
        cached.write_text("".join(f"{site}\n" for site in sites))
    return cached.read_text().split()


def _sites() -> Path:
    rows = [f"{at} {library}\n" for library in _libraries() for at in _addresses(library)]
    text = "".join(rows)
    path = CACHE / f"sites-{hashlib.sha256(text.encode()).hexdigest()[:12]}.txt"
    if not path.exists():
        path.write_text(text)
    return path

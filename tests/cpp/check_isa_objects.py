"""The quarantine of ISA files, read from their objects.

An object of avx2*.cpp or avx512*.cpp may define nothing that the linker could pick for another
file: no weak symbol, no global one but its row functions, whose names end in the ISA. It may call
only the few C functions below, and it may run nothing at load.

    check_isa_objects.py --build build/ci      every ISA object of a build
    check_isa_objects.py a/avx2.cpp.o ...      these objects
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from pathlib import Path

ISA_OBJECT = re.compile(r"(avx2|avx512|amx)[^/]*\.o$")
# g++ emits the first three for plain loops and struct copies, the rest on behalf of its flags.
MAY_CALL = {"memcpy", "memmove", "memset", "__stack_chk_fail", "_GLOBAL_OFFSET_TABLE_"}
SANITIZER = re.compile(r"^(__(asan|ubsan|tsan|msan|sanitizer)|_ZTI)")


def symbols(path: Path) -> list[tuple[str, str]]:
    """Type letter and mangled name of each symbol."""
    text = subprocess.run(["nm", str(path)], check=True, capture_output=True, text=True).stdout
    return [(line.split()[-2], line.split()[-1]) for line in text.splitlines() if line.strip()]


def faults(path: Path) -> list[str]:
    """What the object breaks, one sentence each."""
    isa = ISA_OBJECT.search(str(path)).group(1)
    table = symbols(path)
    sanitized = any(SANITIZER.match(name) for _, name in table)
    found = []
    for kind, name in table:
        if kind in "VvWwu":
            found.append(f"weak symbol {name}: the linker may give it to every file")
        elif kind == "U":
            if name not in MAY_CALL and not sanitized:
                found.append(f"calls {name}")
        elif kind.isupper() and f"_{isa}" not in name:
            found.append(f"global symbol {name}: only row functions named ..._{isa} may be")
    sections = subprocess.run(
        ["objdump", "-h", str(path)], check=True, capture_output=True, text=True
    ).stdout
    if ".init_array" in sections and not sanitized:
        found.append("has a static initializer (.init_array)")
    return found


def main() -> int:
    """Prints every fault; the exit status is 1 if there is one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("objects", nargs="*", type=Path)
    parser.add_argument("--build", type=Path)
    parser.add_argument("--source", type=Path, help="accepted for uniformity of the checks")
    options = parser.parse_args()
    objects = list(options.objects)
    if options.build:
        objects += [p for p in options.build.rglob("*.o") if ISA_OBJECT.search(str(p))]
    if not objects:
        print("no ISA object found")
        return 1
    count = 0
    for path in sorted(objects):
        for fault in faults(path):
            print(f"{path}: {fault}")
            count += 1
    print(f"{len(objects)} ISA objects, {count} faults")
    return 1 if count else 0


if __name__ == "__main__":
    sys.exit(main())

"""Reads the #include lines of cpp/ and fails on an arrow that the table in cpp/README.md lacks."""

import argparse
import pathlib
import re
import sys


def allowed(readme: str) -> dict[str, set[str]]:
    """Room -> rooms it may include, from the table between the markers."""
    table = readme.split("<!-- rooms -->")[1].split("<!-- /rooms -->")[0]
    rows = re.findall(r"^\| `([\w/]+)` \| ([^|]*) \|", table, re.MULTILINE)
    return {room: set(re.findall(r"`([\w/]+)`", known)) | {room} for room, known in rows}


def room_of(path: str, rooms: list[str]) -> str | None:
    """The longest room name that the path starts with."""
    fits = [room for room in rooms if path.startswith(room + "/")]
    return max(fits, key=len) if fits else None


def main() -> int:
    """Prints each forbidden edge; the exit code says whether there was one."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--source", type=pathlib.Path, required=True)
    parser.add_argument("--build", type=pathlib.Path)
    cpp = parser.parse_args().source / "cpp"
    table = allowed((cpp / "README.md").read_text())
    rooms = list(table)
    bad = []
    files = [p for p in cpp.rglob("*") if p.suffix in {".cpp", ".h", ".inc", ".cu"}]
    for path in files:
        name = path.relative_to(cpp).as_posix()
        home = room_of(name, rooms)
        if home is None:
            bad.append(f"{name}: its folder is no room of cpp/README.md")
            continue
        for line, text in enumerate(path.read_text().splitlines(), 1):
            match = re.match(r'\s*#include "([^"]+)"', text)
            target = room_of(match[1], rooms) if match else None
            if target is not None and target not in table[home]:
                bad.append(f"{name}:{line}: {home} may not include {match[1]}")
            if match and "onnx.pb.h" in match[1] and home != "importer":
                bad.append(f"{name}:{line}: only importer may see protobuf")
    print("\n".join(bad) or f"{len(files)} files, every #include is in the table")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())

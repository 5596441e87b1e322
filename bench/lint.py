"""`make lint`: formatting, clang-tidy on what changed, types, style figures."""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

ROOT = pathlib.Path(__file__).resolve().parent.parent
BIN = pathlib.Path(sys.executable).parent
FOLDERS = ("python", "bench", "tests", "notebooks")


def run(command: list[str]) -> int:
    """Runs a command in the repository; prints it when it fails."""
    code = subprocess.run(command, cwd=ROOT, check=False).returncode
    if code != 0:
        print("failed:", " ".join(command[:6]), file=sys.stderr)
    return code


def cpp_files() -> list[str]:
    """C++ sources that git tracks, generated tables left out."""
    listed = subprocess.run(
        ["git", "ls-files", "*.cpp", "*.h"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.split()
    return [f for f in listed if (ROOT / f).exists()]


def tidy(everything: bool) -> int:
    """clang-tidy on files that differ from 20 commits ago, or on all of them."""
    database = ROOT / "build" / "ci" / "compile_commands.json"
    if not database.exists() or shutil.which("clang-tidy") is None:
        print("clang-tidy: skipped, there is no build/ci/compile_commands.json yet")
        return 0
    known = {entry["file"] for entry in json.loads(database.read_text())}
    files = [f for f in cpp_files() if f.endswith(".cpp") and str(ROOT / f) in known]
    files = [f for f in files if f.startswith("cpp/")]
    if not everything:
        base = subprocess.run(
            ["git", "rev-parse", "-q", "--verify", "HEAD~20"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        ).stdout.strip()
        if not base:
            return 0
        changed = subprocess.run(
            ["git", "diff", "--name-only", base],
            cwd=ROOT,
            check=True,
            capture_output=True,
            text=True,
        ).stdout.split()
        files = [f for f in files if f in changed]
    command = ["clang-tidy", "--quiet", "-p", str(database.parent)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        codes = list(pool.map(lambda file: quiet([*command, file]), files))
    return max(codes, default=0)


def quiet(command: list[str]) -> int:
    """Runs a command; prints what it said only when it fails."""
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        print(done.stdout)
    return done.returncode


def figures() -> None:
    """Median, 95th percentile and the ten longest functions; a report, not a bar."""
    text = subprocess.run(
        [str(BIN / "lizard"), "-l", "cpp", "-l", "python", "--csv", "cpp", "python", "bench"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    ).stdout
    rows = [(int(r[-1]) - int(r[-2]) + 1, r[7], r[6]) for r in csv.reader(io.StringIO(text)) if r]
    if not rows:
        return
    lengths = sorted(length for length, _, _ in rows)
    print(
        f"functions: {len(rows)}, median {statistics.median(lengths):.0f} lines, "
        f"p95 {lengths[int(0.95 * len(lengths))]}"
    )
    for length, name, path in sorted(rows, reverse=True)[:10]:
        print(f"  {length:4d}  {name}  {path}")


def main() -> int:
    """Runs every check; the exit code is 1 if any failed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--tidy-all", action="store_true", help="clang-tidy on every file")
    options = parser.parse_args()
    failed = 0
    failed |= run(["clang-format", "--dry-run", "-Werror", *cpp_files()])
    failed |= run([str(BIN / "ruff"), "check", *FOLDERS])
    failed |= run([str(BIN / "ruff"), "format", "--check", *FOLDERS])
    failed |= run([str(BIN / "mypy"), "python/planck", "bench"])
    failed |= tidy(options.tidy_all)
    figures()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

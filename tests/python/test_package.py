"""The package itself: what `import planck` loads and costs."""

from __future__ import annotations

import subprocess
import sys

IMPORT = """
import sys, time
wall, cpu = time.perf_counter(), time.process_time()
import planck
wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
heavy = {"numpy", "ml_dtypes", "onnx", "onnxruntime", "typer", "rich", "argparse", "hashlib"}
print(f"{1e3 * wall:.0f} ms, {1e3 * cpu:.0f} ms of CPU,", sorted(heavy & set(sys.modules)))
planck.models  # noqa: B018 - the lazy sub-module is there
"""


def test_import_is_light() -> None:
    """NumPy and everything optional come with the first call that needs them."""
    done = subprocess.run(
        [sys.executable, "-c", IMPORT], capture_output=True, text=True, check=True
    )
    print("import planck:", done.stdout.strip())
    assert done.stdout.strip().endswith("[]")

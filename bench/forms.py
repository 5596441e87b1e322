"""The int8 forms of a float model: one writer and one row of FORMS each, cached as files.

A form is what some engine runs best: a quantised file made from the same float file and the same
calibration samples. Each is written by a process of its own, so that the benchmark's parent stays
small and quiet, and a writer that fails is a reason in the table. A file's name carries a hash of
the float file, the samples and the writer.

    python -m bench.forms FLOAT.onnx qdq OUT.onnx bert_encoder full 1x128
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import importlib.metadata
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.peers import ROOT, Array, import_planck

SEEDS = tuple(range(101, 109))  # of the samples that calibrate; the measured feeds have others
TIMEOUT_S = 1800.0
PRODUCTS = ["MatMul", "Gemm", "Conv"]
AXIS_OPSET = 13  # from here on scales may lie along an axis

Feeds = dict[str, Array]


@dataclass(frozen=True)
class Samples:
    """What calibrates: feeds of `model` in one shape, a batch for each of SEEDS."""

    model: str
    size: str
    shape: tuple[int, ...]

    @property
    def shape_text(self) -> str:
        """Such as 1x128."""
        return "x".join(map(str, self.shape))

    def feeds(self) -> list[Feeds]:
        """The batches; planck.models makes them."""
        models = import_planck("planck.models")
        return [dict(models.feeds(self.model, self.shape, s, size=self.size)) for s in SEEDS]


@dataclass(frozen=True)
class Form:
    """A quantised file, or the reason why there is none."""

    path: str = ""
    reason: str = ""


# --- writers ----------------------------------------------------------------------------------


def write_qdq(source: Path, target: Path, samples: Sequence[Feeds]) -> None:
    """QuantizeLinear and DequantizeLinear where Planck places them, with its scales."""
    onnx = importlib.import_module("onnx")
    planck = import_planck()
    scales = planck.calibrate(source, samples).solve()
    onnx.save(planck.quantize(source, scales), str(target))


def write_dynamic(source: Path, target: Path, samples: Sequence[Feeds]) -> None:
    """ONNX Runtime's dynamic quantisation: s8 weights, grids of activations found in each run.

    Convolutions stay float: as ConvInteger they take several times as long.
    """
    quantization = importlib.import_module("onnxruntime.quantization")
    registry = importlib.import_module("onnxruntime.quantization.registry")
    kinds = [kind for kind in registry.IntegerOpsRegistry if kind != "Conv"]
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        quantization.quantize_dynamic(
            _tidied(source, Path(folder)),
            target,
            op_types_to_quantize=kinds,
            weight_type=quantization.QuantType.QInt8,
        )


def write_static(source: Path, target: Path, samples: Sequence[Feeds]) -> None:
    """ONNX Runtime's static quantisation: Q/DQ, u8 activations, s8 weights by output channel.

    A model with MatMul gets it at products with a weight and convolutions alone: elsewhere it costs
    a transformer time, and its masks and residual sums all accuracy. Others get it at every op.
    """
    quantization = importlib.import_module("onnxruntime.quantization")

    def write(tidied: Path, options: dict[str, Any]) -> None:
        kinds = PRODUCTS if _has_matmul(tidied) else None
        quantization.quantize_static(
            tidied,
            target,
            _Reader(samples),
            quant_format=quantization.QuantFormat.QDQ,
            op_types_to_quantize=kinds,
            per_channel=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            extra_options={"MatMulConstBOnly": True, **options},
        )

    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        tidied = _tidied(source, Path(folder))
        try:
            write(tidied, {})
        except ValueError:  # fitting scales to a bias fails where that has more than one axis
            write(tidied, {"QDQDisableWeightAdjustForInt32Bias": True})


def _has_matmul(path: Path) -> bool:
    graph = importlib.import_module("onnx").load(str(path)).graph
    return any(node.op_type == "MatMul" for node in graph.node)


def _tidied(source: Path, folder: Path) -> Path:
    """The model as ONNX Runtime's guide wants it before quantising: fused, with shapes.

    Below opset 13 the tool writes scales along an axis all the same, and the session refuses them.
    """
    onnx = importlib.import_module("onnx")
    inference = importlib.import_module("onnxruntime.quantization.shape_inference")
    opset = import_planck("planck.opset")
    raised, tidied = folder / "raised.onnx", folder / "tidied.onnx"
    onnx.save(opset.raised(onnx.load(str(source)), AXIS_OPSET), str(raised))
    inference.quant_pre_process(raised, tidied, skip_symbolic_shape=True)
    return tidied


class _Reader:
    """Samples as a calibration reader of ONNX Runtime."""

    def __init__(self, samples: Sequence[Feeds]) -> None:
        self._left: Iterator[Feeds] = iter(samples)

    def get_next(self) -> Feeds | None:
        return next(self._left, None)


Writer = Callable[[Path, Path, Sequence[Feeds]], None]

FORMS: dict[str, Writer] = {"qdq": write_qdq, "dynamic": write_dynamic, "static": write_static}


# --- cache ------------------------------------------------------------------------------------


@functools.cache
def written(source: Path, form: str, samples: Samples) -> Form:
    """The form of a float file of the cache, written beside it unless it is there."""
    key = _key(source, form, samples)
    stem = f"{samples.model}-{samples.size}-{form}-{samples.shape_text}"
    target = source.with_name(f"{stem}-{key}.onnx")
    if target.exists():
        return Form(str(target))
    for stale in source.parent.glob(f"{stem}-*"):
        stale.unlink()
    partial = target.with_suffix(".partial")
    reason = _write_apart(source, form, partial, samples)
    if reason:
        partial.unlink(missing_ok=True)
        return Form(reason=f"no {form} form: {reason}")
    partial.rename(target)
    return Form(str(target))


def _write_apart(source: Path, form: str, target: Path, samples: Samples) -> str:
    """Runs the writer in a process of its own; why it failed, or an empty text."""
    what = [str(source), form, str(target), samples.model, samples.size, samples.shape_text]
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    try:
        done = subprocess.run(
            [sys.executable, "-m", "bench.forms", *what],
            env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=TIMEOUT_S,
        )
    except subprocess.TimeoutExpired:
        return f"not written within {TIMEOUT_S:g} s"
    if done.returncode == 0 and target.exists():
        return ""
    lines = done.stderr.decode(errors="replace").strip().splitlines()
    return lines[-1][:300] if lines else f"the writer ended with {done.returncode}"


def _key(source: Path, form: str, samples: Samples) -> str:
    """Hash of all that decides what the file holds."""
    parts = [_digest(source), samples.shape_text, str(SEEDS), _digest(Path(__file__))]
    if form == "qdq":
        package = Path(import_planck().__file__).parent
        files = [*package.glob("*.py"), *package.glob("*.so")]
        parts += [_digest(file) for file in sorted(files)]
    else:
        parts.append(importlib.metadata.version("onnxruntime"))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]


@functools.cache
def _digest(path: Path) -> str:
    """Hash of a file's bytes."""
    found = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            found.update(block)
    return found.hexdigest()


def main(arguments: Sequence[str]) -> int:
    """Writes one form; an exception ends the process and is its last line."""
    source, form, target, model, size, shape = arguments
    extents: Any = tuple(int(extent) for extent in shape.split("x"))
    FORMS[form](Path(source), Path(target), Samples(model, size, extents).feeds())
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))

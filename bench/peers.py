"""The engines under test: one adapter and one row of ENGINES each.

An adapter imports its engine inside its constructor, so that only the process that measures an
engine pays for it, and a missing engine is a reason in the table instead of a crash.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
ROOT = Path(__file__).resolve().parent.parent
OPENVINO_PRECISIONS = {"fp32": "f32", "fp32-fast": "f32", "int8": "f32", "bf16": "bf16"}


@dataclass(frozen=True)
class Problem:
    """A model file with the feeds of one case; all that an engine needs to build and run.

    An int8 problem's `path` is the Q/DQ file; `forms` has the other files of the same model by name
    ("float", "dynamic", "static"), `missing` the reasons why one could not be made. `denormals` is
    "compute" or "flush": what engines do with subnormal numbers, but for ONNX Runtime without its
    optimisations, which computes them.
    """

    path: str
    feeds: dict[str, Array]
    outputs: tuple[str, ...]
    dims: dict[str, int] = field(default_factory=dict)  # symbolic dimension -> its value here
    precision: str = "fp32"
    threads: int = 2
    denormals: str = "compute"
    forms: dict[str, str] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)

    def of_form(self, form: str) -> Problem:
        """The same problem with another file; RuntimeError where there is none."""
        if form not in self.forms:
            raise RuntimeError(self.missing.get(form, f"the model has no {form} form"))
        return replace(self, path=self.forms[form])


class Engine(Protocol):
    """A built model. `version` and `options` go into the record of the run."""

    version: str
    options: dict[str, Any]

    def run(self) -> dict[str, Array]:
        """One inference on the problem's feeds; every output by name."""
        ...


def import_planck(module: str = "planck") -> Any:
    """The installed package, else the one of this tree."""
    tree = str(ROOT / "python")
    if tree not in sys.path:
        sys.path.append(tree)
    return importlib.import_module(module)


class Planck:
    """Planck through its public Python API."""

    def __init__(self, problem: Problem) -> None:
        planck = import_planck()
        if not hasattr(planck, "build"):
            raise RuntimeError("the planck package has no build()")
        self.version = str(getattr(planck, "__version__", "unknown"))
        self.options = {
            "precision": problem.precision,
            "threads": problem.threads,
            "denormals": problem.denormals,
        }
        self._feeds = problem.feeds
        self._plan = planck.build(problem.path, **self.options)

    def run(self) -> dict[str, Array]:
        """Runs once; outputs by name."""
        return dict(self._plan.run(self._feeds))


class OnnxRuntime:
    """ONNX Runtime's CPU provider with shapes fixed, all graph optimizations and spinning on."""

    def __init__(self, problem: Problem, *, optimized: bool = True) -> None:
        if problem.precision not in ("fp32", "fp32-fast", "int8"):
            raise RuntimeError(f"onnxruntime has no {problem.precision} mode on CPUs")
        ort = importlib.import_module("onnxruntime")
        options = ort.SessionOptions()
        options.intra_op_num_threads = problem.threads
        options.inter_op_num_threads = 1
        options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
        levels = ort.GraphOptimizationLevel
        options.graph_optimization_level = (
            levels.ORT_ENABLE_ALL if optimized else levels.ORT_DISABLE_ALL
        )
        options.add_session_config_entry("session.intra_op.allow_spinning", "1")
        for name, value in problem.dims.items():
            options.add_free_dimension_override_by_name(name, value)
        flush = optimized and problem.denormals == "flush"
        if flush:  # holds in the first session of a process alone
            options.add_session_config_entry("session.set_denormal_as_zero", "1")
        self.version = str(ort.__version__)
        self.options = {
            "intra_op_num_threads": problem.threads,
            "graph_optimization_level": "all" if optimized else "none",
            "allow_spinning": True,
            "set_denormal_as_zero": flush,
            "dims": problem.dims,
        }
        self._feeds = problem.feeds
        self._names = list(problem.outputs)
        self._session = ort.InferenceSession(
            problem.path, options, providers=["CPUExecutionProvider"]
        )

    def run(self) -> dict[str, Array]:
        """Runs once; outputs by name."""
        return dict(zip(self._names, self._session.run(self._names, self._feeds), strict=True))


class OpenVino:
    """OpenVINO's CPU plugin with shapes fixed, one stream, latency hint; arrays are not copied."""

    def __init__(self, problem: Problem) -> None:
        if problem.precision not in OPENVINO_PRECISIONS:
            raise RuntimeError(f"openvino has no {problem.precision} mode on CPUs")
        openvino = importlib.import_module("openvino")
        core = openvino.Core()
        model = core.read_model(problem.path)
        model.reshape({name: list(feed.shape) for name, feed in problem.feeds.items()})
        self.version = str(openvino.__version__)
        self.options = {
            "INFERENCE_NUM_THREADS": problem.threads,
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": 1,
            "INFERENCE_PRECISION_HINT": OPENVINO_PRECISIONS[problem.precision],
        }
        if problem.denormals == "flush":
            self.options["CPU_DENORMALS_OPTIMIZATION"] = True
        compiled = core.compile_model(model, "CPU", self.options)
        self._feeds = problem.feeds
        self._request = compiled.create_infer_request()
        self._names = [
            next(name for name in problem.outputs if name in output.get_names())
            for output in compiled.outputs
        ]

    def run(self) -> dict[str, Array]:
        """Runs once; outputs by name."""
        found = self._request.infer(self._feeds, share_inputs=True, share_outputs=True)
        return dict(zip(self._names, found.to_tuple(), strict=True))


def _planck_float(problem: Problem) -> Engine:
    """Planck on the float file of an int8 problem: int8 has to be worth it."""
    return Planck(replace(problem.of_form("float"), precision="fp32"))


# A name up to its hyphen is a family: what follows is the form that the engine is given. Plain is
# for right answers only.
ENGINES: dict[str, Callable[[Problem], Engine]] = {
    "planck": Planck,
    "planck-fp32": _planck_float,
    "onnxruntime": OnnxRuntime,
    "onnxruntime-dynamic": lambda problem: OnnxRuntime(problem.of_form("dynamic")),
    "onnxruntime-static": lambda problem: OnnxRuntime(problem.of_form("static")),
    "onnxruntime-plain": lambda problem: OnnxRuntime(problem, optimized=False),
    "openvino": OpenVino,
    "openvino-static": lambda problem: OpenVino(problem.of_form("static")),
}


def family(engine: str) -> str:
    """The engine of which this is a form.

    >>> family("onnxruntime-static")
    'onnxruntime'
    """
    return engine.partition("-")[0]


def make_engine(name: str, problem: Problem) -> Engine:
    """Builds the engine of a row of ENGINES, or of any importable `module:Class`."""
    if ":" in name:
        module, _, attribute = name.partition(":")
        engine: Engine = getattr(importlib.import_module(module), attribute)(problem)
        return engine
    if name not in ENGINES:
        raise RuntimeError(f"no engine is named {name!r}; known: {', '.join(ENGINES)}")
    return ENGINES[name](problem)


def relative_error(got: dict[str, Array], reference: dict[str, Array]) -> float:
    """Largest max|got - reference| / max|reference| over the outputs of the reference.

    Raises ValueError for an output that is missing, misshapen or not finite. An output whose
    reference is zero everywhere is compared absolutely.
    """
    worst = 0.0
    for found, expected in _pairs(got, reference):
        scale = float(np.abs(expected).max()) or 1.0
        worst = max(worst, float(np.abs(found - expected).max()) / scale)
    return worst


def cosine(got: dict[str, Array], reference: dict[str, Array]) -> float:
    """Smallest cosine between an output and its reference, each as one long vector.

    Raises ValueError as relative_error does. Zeros agree with zeros alone.
    """
    worst = 1.0
    for found, expected in _pairs(got, reference):
        lengths = float(np.linalg.norm(found)) * float(np.linalg.norm(expected))
        if lengths > 0:
            worst = min(worst, float(np.vdot(found, expected)) / lengths)
        elif found.any() or expected.any():
            worst = min(worst, 0.0)
    return worst


def _pairs(got: dict[str, Array], reference: dict[str, Array]) -> Iterator[tuple[Array, Array]]:
    """Outputs that are not empty beside their references, in double; ValueError for a bad one."""
    for name, expected in reference.items():
        if name not in got:
            raise ValueError(f"output {name} is missing")
        found = got[name]
        if found.shape != expected.shape:
            raise ValueError(f"output {name} has shape {found.shape}, not {expected.shape}")
        if expected.size == 0:
            continue
        wide = found.astype(np.float64)
        if not np.isfinite(wide).all():
            raise ValueError(f"output {name} has values that are not finite")
        yield wide, expected.astype(np.float64)

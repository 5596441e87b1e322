"""Other engines to measure beside Planck: one function and one row of PEERS each.

A function builds the model for the problem's shapes, at the engine's best for latency, and gives
its version and a call on feeds of these shapes. It runs in a process of its own, which alone
imports the engine. REFERENCE is no peer: it says what is right, and takes its time.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Problem:
    """A model file, feeds, sizes of its symbols, names of its outputs, threads, denormals.

    What Planck flushes its peers flush too, where they can; REFERENCE computes it.
    """

    path: str
    feeds: Arrays
    sizes: Mapping[str, int]
    outputs: tuple[str, ...]
    threads: int
    denormals: Literal["compute", "flush"] = "compute"


Call = Callable[["Arrays"], "Arrays"]


def _onnxruntime(problem: Problem, optimised: bool = True) -> tuple[str, Call]:
    ort = importlib.import_module("onnxruntime")
    options = ort.SessionOptions()
    if not optimised:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = problem.threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    if optimised and problem.denormals == "flush":
        options.add_session_config_entry("session.set_denormal_as_zero", "1")
    for name, size in problem.sizes.items():
        options.add_free_dimension_override_by_name(name, size)
    session = ort.InferenceSession(problem.path, options, providers=["CPUExecutionProvider"])
    names = list(problem.outputs)

    def call(feeds: Arrays) -> Arrays:
        return dict(zip(names, session.run(names, dict(feeds)), strict=True))

    return ort.__version__, call


def _openvino(problem: Problem) -> tuple[str, Call]:
    openvino = importlib.import_module("openvino")
    core = openvino.Core()
    model = core.read_model(problem.path)
    model.reshape({name: list(array.shape) for name, array in problem.feeds.items()})
    options = {
        "INFERENCE_NUM_THREADS": problem.threads,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",
    }
    if problem.denormals == "flush":
        options["CPU_DENORMALS_OPTIMIZATION"] = True
    compiled = core.compile_model(model, "CPU", options)
    request = compiled.create_infer_request()
    names = [
        next(name for name in problem.outputs if name in output.get_names())
        for output in compiled.outputs
    ]

    def call(feeds: Arrays) -> Arrays:
        found = request.infer(dict(feeds), share_inputs=True, share_outputs=True)
        return dict(zip(names, found.to_tuple(), strict=True))

    return openvino.__version__, call


PEERS: Mapping[str, Callable[[Problem], tuple[str, Call]]] = {
    "onnxruntime": _onnxruntime,
    "openvino": _openvino,
}
REFERENCE = "reference"  # ONNX Runtime with optimisations off
ENGINES: Mapping[str, Callable[[Problem], tuple[str, Call]]] = {
    **PEERS,
    REFERENCE: lambda problem: _onnxruntime(problem, optimised=False),
}

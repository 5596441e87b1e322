"""Other engines to measure beside Planck: one function and one row of PEERS each.

A function builds the model for the problem's shapes, at the engine's best for latency, and gives
its version and a call. It runs in a process of its own, which alone imports the engine.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Problem:
    """A model file, feeds, sizes of its symbols, names of its outputs, threads."""

    path: str
    feeds: Arrays
    sizes: Mapping[str, int]
    outputs: tuple[str, ...]
    threads: int


def _onnxruntime(problem: Problem) -> tuple[str, Callable[[], Arrays]]:
    ort = importlib.import_module("onnxruntime")
    options = ort.SessionOptions()
    options.intra_op_num_threads = problem.threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    for name, size in problem.sizes.items():
        options.add_free_dimension_override_by_name(name, size)
    session = ort.InferenceSession(problem.path, options, providers=["CPUExecutionProvider"])
    names, feeds = list(problem.outputs), dict(problem.feeds)
    return ort.__version__, lambda: dict(zip(names, session.run(names, feeds), strict=True))


def _openvino(problem: Problem) -> tuple[str, Callable[[], Arrays]]:
    openvino = importlib.import_module("openvino")
    core = openvino.Core()
    model = core.read_model(problem.path)
    model.reshape({name: list(array.shape) for name, array in problem.feeds.items()})
    options = {
        "INFERENCE_NUM_THREADS": problem.threads,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",
    }
    compiled = core.compile_model(model, "CPU", options)
    request = compiled.create_infer_request()
    names = [
        next(name for name in problem.outputs if name in output.get_names())
        for output in compiled.outputs
    ]
    feeds = dict(problem.feeds)

    def call() -> Arrays:
        found = request.infer(feeds, share_inputs=True, share_outputs=True)
        return dict(zip(names, found.to_tuple(), strict=True))

    return openvino.__version__, call


PEERS: Mapping[str, Callable[[Problem], tuple[str, Callable[[], Arrays]]]] = {
    "onnxruntime": _onnxruntime,
    "openvino": _openvino,
}

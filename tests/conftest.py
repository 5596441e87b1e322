"""Fixtures: models in a folder of the run, ONNX Runtime as the reference."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

Array = NDArray[Any]
Feeds = dict[str, Array]


@pytest.fixture(scope="session")
def model_path(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """model_path(name, size, **options): writes the model once in a run and gives its path."""
    import planck.models

    folder = tmp_path_factory.mktemp("models")

    def write(name: str, size: str = "mini", **options: Any) -> Path:
        spelled = "-".join(f"{k}_{v}" for k, v in sorted(options.items()))
        path = folder / f"{name}-{size}-{spelled}.onnx"
        if not path.exists():
            if name == "blocks":
                planck.models.blocks(path, **options)
            else:
                planck.models.write(name, path, size=size, **options)
        return path

    return write


@pytest.fixture(scope="session")
def reference() -> Callable[[Path, Feeds], Feeds]:
    """reference(path, feeds): what ONNX Runtime gives with its optimisations off."""
    ort = pytest.importorskip("onnxruntime")
    sessions: dict[Path, Any] = {}

    def run(path: Path, feeds: Feeds) -> Feeds:
        if path not in sessions:
            sessions.clear()  # one full model in memory at a time
            options = ort.SessionOptions()
            options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
            options.log_severity_level = 3
            sessions[path] = ort.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
        session = sessions[path]
        names = [port.name for port in session.get_outputs()]
        return dict(zip(names, session.run(names, feeds), strict=True))

    return run


def relative_gap(got: Array, want: Array) -> float:
    """max |got - want| / max |want|; shapes and dtypes must be equal."""
    assert got.shape == want.shape and got.dtype == want.dtype
    return float(np.max(np.abs(got - want)) / np.max(np.abs(want)))

"""Base classes whose methods a script overrides, and what has no meaning here."""

from __future__ import annotations

from typing import Any

from planck.trt._logger import refused


class IProfiler:
    """Is told what each step of a run took."""

    def report_layer_time(self, layer_name: str, ms: float) -> None:
        """Called after a run for each step; its name joins those of its ONNX nodes."""
        raise NotImplementedError("a profiler has a method report_layer_time(layer_name, ms)")


class Profiler(IProfiler):
    """Keeps the times; `str` gives them as lines."""

    def __init__(self) -> None:
        self.times: list[tuple[str, float]] = []

    def report_layer_time(self, layer_name: str, ms: float) -> None:
        """Keeps a time."""
        self.times.append((layer_name, ms))

    def __str__(self) -> str:
        """A line for each step."""
        return "\n".join(f"{name}: {ms:.4f} ms" for name, ms in self.times)


class IProgressMonitor:
    """Is told how far a build is, and may end it."""

    def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
        """Called before a phase."""
        raise NotImplementedError("a progress monitor has a method phase_start")

    def step_complete(self, phase_name: str, step: int) -> bool:
        """Called after a step; False ends the build."""
        raise NotImplementedError("a progress monitor has a method step_complete")

    def phase_finish(self, phase_name: str) -> None:
        """Called after a phase, also if the build failed."""
        raise NotImplementedError("a progress monitor has a method phase_finish")


class IOutputAllocator:
    """Gives memory for outputs whose size a run decides."""

    def reallocate_output(
        self, tensor_name: str, memory: int, size: int, alignment: int
    ) -> int | None:
        """The address of `size` bytes."""
        raise NotImplementedError("an output allocator has a method reallocate_output")

    def notify_shape(self, tensor_name: str, shape: Any) -> None:
        """Called with the shape when the output is there."""
        raise NotImplementedError("an output allocator has a method notify_shape")


class IStreamReader:
    """Reads an engine piece by piece."""

    def read(self, size: int) -> bytes:
        """At most `size` bytes, none at the end."""
        raise NotImplementedError("a stream reader has a method read(size)")


class IErrorRecorder:
    """Taken and not used: errors are raised."""


class Refitter:
    """Errors: UnsupportedError; plans are not refitted."""

    def __init__(self, engine: Any, logger: Any = None) -> None:
        raise refused(
            "engines are not refitted", "planck.build(model, initializers=...) takes other weights"
        )

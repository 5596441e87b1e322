"""`planck.Plan`: the built result, and how to run it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from planck import _core

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Port:
    """An input or output: its name, NumPy dtype name, and shape of ints and symbols."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]


@dataclass(frozen=True, slots=True)
class Step:
    """One kernel call.

    nodes: the ONNX nodes that it covers. asked, given: precision. rejected: (kernel, reason) of
    every kernel that could have run it.
    """

    op: str
    family: str
    kernel: str
    nodes: tuple[str, ...]
    asked: str
    given: str
    rejected: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class StepTime:
    """What a step of one run took; `flops` counts the operations of its products, else 0."""

    seconds: float
    flops: float


@dataclass(frozen=True, slots=True)
class Stats:
    """Counts since the plan was built.

    bindings: new shapes met. allocations: of arenas, staging and scratch; a repeated shape makes
    none. copies: feeds that had to be converted to the model's integer width.
    """

    runs: int
    bindings: int
    allocations: int
    copies: int
    arena_bytes: int


class Plan:
    """A plan, ready to run from any number of threads."""

    def __init__(self, core: _core.Plan) -> None:
        """Wraps what `planck.build` made."""
        self._core = core

    def run(
        self, feeds: Mapping[str, Array], out: Mapping[str, Array] | None = None
    ) -> dict[str, Array]:
        """Runs the model on arrays and returns its outputs by name.

        feeds: an array for each input, of its dtype and rank; int32 is taken where the model says
        int64; arrays that are not C-contiguous are copied once. out: arrays to write outputs
        into, of exactly their shape and dtype, writable and C-contiguous.
        Errors: FeedError names the input, what was expected and what came; RunError for a value
        that is wrong, such as an index outside its table. The plan stays usable.

        >>> import tempfile, pathlib, planck, planck.models
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "bert.onnx"
        >>> planck.models.write("bert_encoder", path, size="mini")
        >>> feeds = planck.models.feeds("bert_encoder", (2, 5), size="mini")
        >>> planck.build(path).run(feeds)["last_hidden_state"].shape
        (2, 5, 64)
        """
        return self._core.run(dict(feeds), None if out is None else dict(out))

    def trace(self, feeds: Mapping[str, Array]) -> tuple[StepTime, ...]:
        """Runs the model once and returns the time of every step, in the order of `steps`."""
        return tuple(StepTime(*row) for row in self._core.trace(dict(feeds)))

    def explain(self) -> str:
        """The plan as text: steps, kernels chosen and rejected, ONNX nodes, refusals of fusions."""
        return self._core.explain()

    @property
    def inputs(self) -> tuple[Port, ...]:
        """What `run` takes, in the model's order."""
        return tuple(Port(*row) for row in self._core.inputs)

    @property
    def outputs(self) -> tuple[Port, ...]:
        """What `run` gives, in the model's order."""
        return tuple(Port(*row) for row in self._core.outputs)

    @property
    def steps(self) -> tuple[Step, ...]:
        """The kernel calls, in order."""
        return tuple(
            Step(
                row["op"],
                row["family"],
                row["kernel"],
                tuple(row["nodes"]),
                row["asked"],
                row["given"],
                tuple((kernel, reason) for kernel, reason in row["rejected"]),
            )
            for row in self._core.steps
        )

    @property
    def nodes(self) -> tuple[str, ...]:
        """Names of all nodes of the ONNX model."""
        return tuple(self._core.nodes)

    @property
    def unused(self) -> tuple[str, ...]:
        """Names of the ONNX nodes that no output needs."""
        return tuple(self._core.unused)

    @property
    def report(self) -> dict[str, Any]:
        """How the build went.

        model, onnx_nodes, ops (count by name after the passes), import_ms, passes_ms, lower_ms,
        peak_rss_bytes, passes (name, patches, ms), refusals (pass, node, reason).
        """
        return self._core.report

    @property
    def stats(self) -> Stats:
        """Counts since the plan was built."""
        return Stats(**self._core.stats)

    @property
    def precision(self) -> str:
        """The precision that was asked for."""
        return self._core.precision

    @property
    def constant_bytes(self) -> int:
        """Bytes of weights, packed for their kernels."""
        return self._core.constant_bytes

    @property
    def threads(self) -> int:
        """Threads of the team, the caller's included."""
        return self._core.threads

    def __repr__(self) -> str:
        """One line: model, steps, precision."""
        report = self.report
        return (
            f"Plan({report['model']!r}: {report['onnx_nodes']} ONNX nodes, "
            f"{len(self._core.steps)} steps, {self.precision}, {self.threads} threads)"
        )


def empty_outputs(plan: Plan, sizes: Mapping[str, int]) -> dict[str, Array]:
    """Arrays for `run(..., out=)`, with each symbol of the output shapes given in `sizes`.

    Errors: KeyError for a symbol without a size.
    """

    def extent(dim: int | str) -> int:
        return dim if isinstance(dim, int) else sizes[dim]

    return {
        port.name: np.empty([extent(d) for d in port.shape], dtype=port.dtype)
        for port in plan.outputs
    }

"""`planck.Plan`: the built result, and how to run it."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NoReturn

from planck import _core
from planck.arguments import by_name, expect_type, flushes, names_in, path_of, thread_count
from planck.limits import LimitsLike, as_dict

if TYPE_CHECKING:  # `import planck` is quick: NumPy comes with the first array
    import mmap
    import os

    from numpy.typing import NDArray

    Array = NDArray[Any]

Repack = Literal["auto", "never", "best"]
Denormals = Literal["compute", "flush"]


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
    every kernel that could have run it. reads, writes: types of its operands and results, such as
    "f32[batch,64]", with weights as they are packed. after: the steps whose results it reads, by
    their places in `Plan.steps`.
    """

    op: str
    family: str
    kernel: str
    nodes: tuple[str, ...]
    asked: str
    given: str
    rejected: tuple[tuple[str, str], ...]
    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    after: tuple[int, ...] = ()


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


@dataclass(frozen=True, slots=True)
class TensorMemory:
    """The largest tensor of a buffer; `name` is empty where the ONNX model has no such tensor."""

    name: str
    kind: Literal["input", "output", "arena"]
    dtype: str
    shape: tuple[int, ...]
    bytes: int


@dataclass(frozen=True, slots=True)
class Memory:
    """What a run on given shapes takes, in bytes, known before it.

    arena_bytes: of intermediate tensors, as the system maps them (pages of 2 MiB); a session's
    arena grows to the largest that it has met, and each caller at the same time has its own.
    packed_bytes: of these, what tensors lie in, their lifetimes considered. scratch_bytes: of each
    thread. constant_bytes: weights, once for all callers. input_bytes, output_bytes: the caller's
    arrays. tensors: the largest tensor of each buffer, by size.
    """

    arena_bytes: int
    packed_bytes: int
    scratch_bytes: int
    threads: int
    constant_bytes: int
    input_bytes: int
    output_bytes: int
    tensors: tuple[TensorMemory, ...]

    @property
    def total_bytes(self) -> int:
        """All together, with the scratch of every thread."""
        scratch = self.scratch_bytes * self.threads
        ports = self.input_bytes + self.output_bytes
        return self.arena_bytes + scratch + self.constant_bytes + ports


class Plan:
    """A plan, ready to run from any number of threads."""

    def __init__(self, core: _core.Plan) -> None:
        """Wraps what `planck.build` made."""
        self._core = core

    def run(
        self,
        feeds: Mapping[str, Array],
        out: Mapping[str, Array] | None = None,
        *,
        timeout: float | None = None,
        cancel: _core.Cancel | None = None,
        times: list[StepTime] | None = None,
    ) -> dict[str, Array]:
        """Runs the model on arrays and returns its outputs by name.

        feeds: an array for each input, of its dtype and rank, or what NumPy or DLPack makes one of;
        int32 is taken where the model says int64; arrays that are not C-contiguous are copied once.
        out: arrays to write outputs into, of exactly their shape and dtype, writable and
        C-contiguous; else they are new arrays, and those of 2 MiB and more give their memory to a
        later run when nothing refers to them any more (the plan keeps as many as it has outputs).
        timeout: seconds; None
        takes the limit run_timeout. cancel: a planck.Cancel that another thread may ask. times: a
        list to which the time of every step is appended, in the order of `steps`.
        Errors: FeedError names the input, what was expected and what came; RunError for a value
        that is wrong, such as an index outside its table; LimitError, TimeoutError,
        CancelledError. The plan stays usable.

        >>> import tempfile, pathlib, planck, planck.models
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "bert.onnx"
        >>> planck.models.write("bert_encoder", path, size="mini")
        >>> feeds = planck.models.feeds("bert_encoder", (2, 5), size="mini")
        >>> planck.build(path).run(feeds)["last_hidden_state"].shape
        (2, 5, 64)
        """
        for name, given in (("feeds", feeds), ("out", {} if out is None else out)):
            # The ABC's own check costs as much as all else here, when the caches are cold.
            if type(given) is not dict and not isinstance(given, Mapping):
                raise _core.FeedError(f"{name} is {type(given).__name__}; expected arrays by name")
        if timeout is not None and not (isinstance(timeout, (int, float)) and timeout > 0):
            raise _core.UsageError(f"timeout is {timeout!r}; expected more than 0 seconds")
        if cancel is not None:
            expect_type("cancel", cancel, _core.Cancel, "a planck.Cancel")
        if times is not None:
            expect_type("times", times, list, "a list")
        outputs = None if out is None else dict(out)
        rows: list[tuple[float, float]] | None = None if times is None else []
        results = self._core.run(dict(feeds), outputs, timeout or 0.0, cancel, rows)
        if times is not None:
            times.extend(StepTime(*row) for row in rows or ())
        return results

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the plan file: the old file stays until the new one is whole.

        The same model and options give the same bytes. A plan file is data and holds no code; its
        weights are mapped by `planck.load`, so processes that load one file share them.
        Errors: FileError.

        >>> import tempfile, pathlib, planck, planck.models
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> planck.models.write("bert_encoder", folder / "bert.onnx", size="mini")
        >>> plan = planck.build(folder / "bert.onnx")
        >>> plan.save(folder / "bert.plan")
        >>> planck.load(folder / "bert.plan").sha256 == plan.sha256
        True
        """
        self._core.save(path_of(path))

    def to_bytes(self) -> bytes:
        """What `save` writes, in memory; `planck.load` takes it back."""
        pieces: list[bytes] = []
        self._core.write(lambda piece: pieces.append(bytes(piece)))
        return b"".join(pieces)

    def __copy__(self) -> Plan:
        """The plan itself: it never changes, and any number of threads may use it."""
        return self

    def __deepcopy__(self, memo: Mapping[int, object]) -> Plan:
        """The plan itself."""
        return self

    def __reduce__(self) -> NoReturn:
        """Limits and the team of threads are not in a plan file. Errors: TypeError says so."""
        raise TypeError(
            "a plan is not pickled: write it with plan.save(path), and let each process call "
            "planck.load(path) with its own limits and threads; they share its weights then"
        )

    def taps(
        self, feeds: Mapping[str, Array], names: Sequence[str] | None = None
    ) -> dict[str, Array]:
        """Tensors of the original ONNX model by name, as this plan computes them.

        names: which (None: all). A tensor that the plan holds is read where it lies; one that
        vanished inside a fused step is evaluated again from the step's real inputs and rounded to
        its type. The plan does not change, and outputs have the bits that `run` gives.
        Errors: FeedError; UsageError for a name that the model does not have.

        >>> import tempfile, pathlib, planck, planck.models
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "bert.onnx"
        >>> planck.models.write("bert_encoder", path, size="mini")
        >>> plan = planck.build(path)
        >>> scores = "/encoder/layer.0/attention/self/Softmax_output_0"
        >>> feeds = planck.models.feeds("bert_encoder", (2, 5), size="mini")
        >>> plan.taps(feeds, [scores])[scores].shape
        (2, 4, 5, 5)
        """
        wanted = None if names is None else set(names_in("names", names))
        taps = _core.tap_tensors(self._core, dict(feeds), wanted, 0)
        for name in names or ():
            if name not in taps:
                raise _core.UsageError(
                    f"the model has no tensor {name!r} that a node produces; "
                    "plan.tensors lists them"
                )
        return taps

    @property
    def tensors(self) -> tuple[str, ...]:
        """Names of all tensors that nodes of the original model produce, in its order."""
        return tuple(fact["name"] for fact in _core.tensor_facts(self._core))

    @property
    def sha256(self) -> str:
        """SHA-256 of the plan file's bytes, in hexadecimal: the identity of the plan."""
        import hashlib

        digest = hashlib.sha256()
        self._core.write(digest.update)
        return digest.hexdigest()

    @property
    def isa(self) -> str:
        """The instruction set whose kernels were chosen."""
        return self._core.isa

    def trace(self, feeds: Mapping[str, Array]) -> tuple[StepTime, ...]:
        """Runs the model once and returns the time of every step, in the order of `steps`."""
        times: list[StepTime] = []
        self.run(feeds, times=times)
        return tuple(times)

    def explain(self) -> str:
        """The plan as text: steps, kernels chosen and rejected, ONNX nodes, refusals of fusions."""
        return self._core.explain()

    def memory(self, shapes: Mapping[str, Sequence[int]]) -> Memory:
        """What a run on inputs of these shapes takes; nothing of it is allocated.

        shapes: by the name of the input; one that is left out takes the sizes that its symbols
        have in the others. The arena is that of the run itself, to the byte.
        Errors: FeedError names the input, what was expected and what came; LimitError for a tensor
        beyond max_tensor_bytes.

        >>> import tempfile, pathlib, planck, planck.models
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "bert.onnx"
        >>> planck.models.write("bert_encoder", path, size="mini")
        >>> plan = planck.build(path)
        >>> need = plan.memory({"input_ids": (2, 5)})
        >>> need.input_bytes, need.output_bytes  # three of i64[2,5]; f32[2,5,64] and f32[2,64]
        (240, 3072)
        >>> feeds = planck.models.feeds("bert_encoder", (2, 5), size="mini")
        >>> _ = plan.run(feeds)
        >>> plan.stats.arena_bytes == need.arena_bytes >= need.packed_bytes
        True
        """
        given = {
            name: _extents(name, shape)
            for name, shape in by_name("shapes", shapes, "the shapes of inputs").items()
        }
        row = self._core.memory(_with_known(self.inputs, given))
        tensors = tuple(TensorMemory(*tensor) for tensor in row.pop("tensors"))
        return Memory(**row, threads=self.threads, tensors=tensors)

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
                tuple(row["reads"]),
                tuple(row["writes"]),
                tuple(sorted(row["after"])),
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

    @property
    def denormals(self) -> Denormals:
        """What runs do with subnormal numbers: "compute", or "flush" them to zero."""
        return "flush" if self._core.flushes else "compute"

    def _repr_html_(self) -> str:
        """The plan in a notebook: a row for each of the first steps."""
        from planck.markup import table

        steps, most = self.steps, 40
        left_out = f"; the first {most} steps" if len(steps) > most else ""
        return table(
            f"{self!r}{left_out}",
            ("step", "op", "kernel", "writes", "precision", "ONNX nodes"),
            (
                (str(i), s.op, s.kernel, ", ".join(s.writes), s.given, ", ".join(s.nodes)[:200])
                for i, s in enumerate(steps[:most])
            ),
        )

    def __repr__(self) -> str:
        """One line: model, steps, precision, how it runs."""
        report = self.report
        flushed = ", denormals flushed" if self._core.flushes else ""
        return (
            f"Plan({report['model']!r}: {report['onnx_nodes']} ONNX nodes, "
            f"{len(self._core.steps)} steps, {self.precision}, {self.threads} threads{flushed})"
        )


def _with_known(
    ports: Sequence[Port], given: Mapping[str, tuple[int, ...]]
) -> dict[str, tuple[int, ...]]:
    """Shapes of all inputs whose symbols have a size in those given."""
    sizes: dict[int | str, int] = {}
    for port in ports:
        sizes.update(zip(port.shape, given.get(port.name, ()), strict=False))
    shapes = dict(given)
    for port in ports:
        extents = [
            extent if isinstance(extent, int) else sizes.get(extent) for extent in port.shape
        ]
        known = tuple(extent for extent in extents if extent is not None)
        if port.name not in given and len(known) == len(extents):
            shapes[port.name] = known
    return shapes


def load(
    plan: str | os.PathLike[str] | bytes,
    *,
    expect_sha256: str | None = None,
    verify: bool = False,
    repack: Repack = "auto",
    threads: int | None = None,
    denormals: Denormals = "compute",
    limits: LimitsLike = "default",
) -> Plan:
    """Loads a plan file. Safe for a plan from anyone: it gives a plan or a typed error.

    plan: path or bytes. A file is mapped and not copied if it belongs to us or root and nobody
    else may write it. Structure, metadata and meaning are checked on every load; verify=True also
    hashes the weights. expect_sha256: hexadecimal digest that the whole file must have.
    repack: for a plan of another instruction set, "auto" chooses kernels and packs weights anew if
    its kernels cannot run here, "never" refuses, "best" also where this machine has faster ones.
    threads: of the team; None takes CPU affinity and the cgroup's quota. denormals, limits: as for
    `planck.build`; a plan file has neither, and limits hold for this load and its runs.

    Errors: CorruptError (truncated, damaged, no plan, wrong digest), VersionError (another format),
    TargetError (another machine), LimitError, TimeoutError, FileError.

    >>> try:
    ...     load(b"no plan")
    ... except _core.CorruptError as error:
    ...     print(error)
    ...     print(error.hint)
    this is not a Planck plan: it does not begin with the magic bytes
    planck.build makes a plan from an ONNX model
    """
    team, flush = thread_count(threads), flushes(denormals)
    expect_type("verify", verify, bool, "True or False")
    if not isinstance(expect_sha256, (str, type(None))):
        raise _core.UsageError(f"expect_sha256 is {expect_sha256!r}; expected hexadecimal text")
    bounds = as_dict(limits)
    if isinstance(plan, (bytes, bytearray, memoryview)):
        plan = bytes(plan)
        _check_digest(plan, expect_sha256)
        return Plan(_core.load_bytes(plan, verify, repack, team, bounds, flush))
    path = path_of(plan, "plan")
    if expect_sha256 is None:
        return Plan(_core.load_file(path, verify, repack, team, bounds, flush))
    import mmap

    # One open file is hashed and loaded, so that nobody can swap it in between.
    try:
        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
            _check_digest(view, expect_sha256)
            opened = f"/proc/self/fd/{file.fileno()}"
            return Plan(_core.load_file(opened, verify, repack, team, bounds, flush, path))
    except (OSError, ValueError) as error:  # ValueError: an empty file cannot be mapped
        if isinstance(error, _core.Error):
            raise
        raise _core.FileError(f"cannot read '{path}': {error}") from error


def _extents(name: str, shape: Any) -> tuple[int, ...]:
    """The extents of an input. Errors: FeedError for what is no whole number."""
    try:
        extents = tuple(operator.index(extent) for extent in shape)
    except TypeError:
        extents = (2**63,)
    if any(abs(extent) >= 2**63 for extent in extents):
        raise _core.FeedError(
            f"the shape of input {name!r} is {shape!r}; expected whole numbers of 64 bits"
        )
    return extents


def _check_digest(plan: bytes | mmap.mmap, expected: str | None) -> None:
    if expected is None:
        return
    import hashlib

    digest = hashlib.sha256(plan).hexdigest()
    if digest != expected.lower():
        raise _core.CorruptError(f"the plan's SHA-256 is {digest}, expected {expected.lower()}")


def empty_outputs(plan: Plan, sizes: Mapping[str, int]) -> dict[str, Array]:
    """Arrays for `run(..., out=)`, with each symbol of the output shapes given in `sizes`.

    Errors: KeyError for a symbol without a size.
    """
    import numpy as np

    def extent(dim: int | str) -> int:
        return dim if isinstance(dim, int) else sizes[dim]

    return {
        port.name: np.empty([extent(d) for d in port.shape], dtype=port.dtype)
        for port in plan.outputs
    }

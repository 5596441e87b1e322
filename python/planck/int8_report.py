"""`planck.int8_report`: why int8 is not faster: what stayed float, what only converts, the cost."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from planck import _core
from planck.arguments import by_name, expect_plan
from planck.compare import clean, plain_table, write_json
from planck.plan import Plan, Step

if TYPE_CHECKING:  # `import planck` is quick: NumPy comes with the first array
    from numpy.typing import NDArray

    from planck.plots import Int8Plots

    Feeds = Mapping[str, NDArray[Any]]

SCHEMA = 1
Kind = Literal["float product", "conversion", "pair", "reference"]
Part = Literal["integer products", "float products", "conversions", "other"]
PARTS: tuple[Part, ...] = ("integer products", "float products", "conversions", "other")
HEADER = ("step", "what", "nodes", "us", "share", "reason")
PASSES = ("quantized", "place")  # whose refusals are about int8
PRODUCTS = {
    "planck.Linear",
    "planck.Convolution",
    "planck.Attention",
    "MatMul",
    "Gemm",
    "Conv",
    "ConvTranspose",
    "MatMulInteger",
    "ConvInteger",
    "QLinearMatMul",
    "QLinearConv",
}
CONVERSIONS = {"eltwise", "lut", "copy", "dynamic_quantize"}
# Families whose steps can store bytes themselves: a QuantizeLinear behind them is their last
# instruction.
STORING = {"linear", "conv", "winograd", "channelwise", "qproduct", "eltwise"}
BYTES = ("u8[", "s8[")
FLOATS = ("f32[", "f16[", "bf16[", "f64[")
COPIED = 64 << 20  # bytes of the copy that tells the bandwidth: more than caches hold


@dataclass(frozen=True, slots=True)
class Int8Row:
    """One thing that int8 did not make faster.

    step: its place in `Plan.steps`; -1 where no step of its own is left of it. kind: "float
    product" (a product, convolution or attention on floats), "conversion" (a step that ends in a
    QuantizeLinear or DequantizeLinear of its own), "pair" (quantised for an op that computes in
    floats), "reference" (an op without a kernel). op: what the step computes. node: the ONNX node
    that the row is about; nodes: all that the step covers. microseconds: of the step; 0 for a step
    of -1.
    """

    step: int
    kind: Kind
    op: str
    node: str
    nodes: tuple[str, ...]
    reason: str
    microseconds: float


@dataclass(frozen=True, slots=True)
class Int8Report:
    """The result of `planck.int8_report`: rows by time, the longest first, and where time goes.

    microseconds: of each part of a run; "conversions" are the steps that quantise or dequantise
    apart from products. steps: how many of each part. measured: by runs of the plan; otherwise
    times are estimates from bytes alone. runs: their number, 0 for estimates.
    gigabytes_per_second: the bandwidth that estimates rest on, 0 for measured times.
    Prints as a table; in a notebook as static HTML.
    """

    rows: tuple[Int8Row, ...]
    microseconds: Mapping[Part, float]
    steps: Mapping[Part, int]
    measured: bool
    runs: int
    gigabytes_per_second: float
    precision: str
    plan: str

    @property
    def total(self) -> float:
        """Microseconds of all steps."""
        return sum(self.microseconds.values())

    def share(self, part: Part) -> float:
        """The part's share of the time, 0 to 1. Errors: KeyError.

        "integer products" is what int8 is about; where it is small, the rows say why.
        """
        return self.microseconds[part] / self.total if self.total > 0 else 0.0

    @property
    def verdict(self) -> str:
        """One sentence: where time goes, and the largest thing that is not int8."""
        if not self.total:
            return "the plan has no steps"
        how = f"median of {self.runs} runs" if self.measured else "estimated from bytes alone"
        parts = ", ".join(
            f"{self.share(part):.0%} in {part if part != 'other' else 'other steps'} "
            f"({self.steps[part]})"
            for part in PARTS
            if self.steps[part]
        )
        text = f"{self.total:.0f} us ({how}): {parts}"
        if self.rows:
            row = self.rows[0]
            text += f". Largest: {_nodes(row)}, {row.reason}"
        return text

    def table(self, count: int = 20) -> list[tuple[str, ...]]:
        """The first rows as cells of text under `HEADER`, names made harmless."""
        return [
            (
                str(row.step) if row.step >= 0 else "-",
                row.kind,
                _nodes(row),
                f"{row.microseconds:.1f}",
                f"{row.microseconds / self.total if self.total else 0:.1%}",
                clean(row.reason, 100),
            )
            for row in self.rows[:count]
        ]

    def __str__(self) -> str:
        """The first rows and the verdict, as text."""
        return "\n".join([*plain_table([HEADER, *self.table()], {3, 4}), self.verdict])

    __repr__ = __str__

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain values, with a schema number."""
        return {
            "schema": SCHEMA,
            "kind": "planck.int8_report",
            "plan": self.plan,
            "precision": self.precision,
            "measured": self.measured,
            "runs": self.runs,
            "gigabytes_per_second": self.gigabytes_per_second,
            "microseconds": dict(self.microseconds),
            "shares": {part: self.share(part) for part in PARTS},
            "steps": dict(self.steps),
            "rows": [asdict(row) for row in self.rows],
        }

    def to_json(self, path: str | os.PathLike[str] | None = None) -> str:
        """The dictionary as JSON; also written to `path` if it is given. Errors: FileError."""
        return write_json(self.to_dict(), path)

    @property
    def plot(self) -> Int8Plots:
        """Pictures of the report; they need matplotlib."""
        from planck.plots import Int8Plots

        return Int8Plots(self)

    def _repr_html_(self) -> str:
        return self.to_html()

    def to_html(self, count: int = 20) -> str:
        """Static HTML, every string of the model escaped, a bar for each share."""
        import html

        cells = "".join(f"<th>{html.escape(name)}</th>" for name in HEADER)
        body = []
        for row, line in zip(self.rows, self.table(count), strict=False):
            width = 100 * row.microseconds / self.total if self.total else 0
            bar = (
                f'<svg width="100" height="10"><rect width="{width:.0f}" height="10" '
                f'fill="#c33"/></svg>'
            )
            tds = "".join(f"<td>{html.escape(cell)}</td>" for cell in line)
            body.append(f"<tr>{tds}<td>{bar}</td></tr>")
        return (
            f"<p>{html.escape(self.verdict)}</p><table><thead><tr>{cells}<th></th></tr></thead>"
            f"<tbody>{''.join(body)}</tbody></table>"
        )


def int8_report(
    plan: Plan,
    feeds: Feeds | None = None,
    *,
    runs: int = 5,
    sizes: Mapping[str, int] | None = None,
) -> Int8Report:
    """Says why int8 is not faster: what did not become an integer product, why, and what it costs.

    plan: built or loaded. feeds: arrays by the name of the input; the plan runs `runs` times on
    them after two runs that warm up, and each step's time is the median. Without feeds a step's
    time is an estimate, the bytes that it reads and writes by the bandwidth of this machine (of one
    copy): good for steps that convert, too low for products. sizes: of symbols of the shapes, for
    estimates; a symbol without one counts as 1.

    Rows are products that compute in floats, steps that only quantise or dequantise, tensors that
    are quantised for an op of floats, and ops without a kernel. Observing does not change the plan.
    Errors: UsageError (runs, sizes), FeedError, and what `Plan.run` raises.

    >>> import tempfile, pathlib, planck, planck.models
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "digits.onnx"
    >>> planck.models.write("digits", path, size="mini", trained=True)
    >>> report = planck.int8_report(planck.build(path))
    >>> report.share("integer products"), {row.kind for row in report.rows}
    (0.0, {'float product'})
    """
    plan = expect_plan(plan)
    if runs < 1:
        raise _core.UsageError(f"runs is {runs}; expected at least 1")
    ports = (*plan.inputs, *plan.outputs)
    symbols = {extent for port in ports for extent in port.shape if isinstance(extent, str)}
    for symbol, size in by_name("sizes", sizes, "sizes").items():
        if symbol not in symbols:
            known = ", ".join(map(repr, sorted(symbols))) or "none"
            raise _core.UsageError(f"sizes: the plan has no symbol {symbol!r}; it has {known}")
        if not isinstance(size, int) or size < 0:
            raise _core.UsageError(f"sizes[{symbol!r}] is {size!r}; expected at least 0")
    bandwidth = 0.0
    if feeds is None:
        bandwidth = _bandwidth()
        seconds = [count / bandwidth for count in plan._core.step_bytes(dict(sizes or {}))]
    else:
        seconds = _measured(plan, feeds, runs)
    microseconds = [1e6 * s for s in seconds]
    parts = [part_of(step) for step in plan.steps]
    return Int8Report(
        rows=tuple(sorted(_rows(plan, microseconds), key=lambda row: -row.microseconds)),
        microseconds={
            part: sum(us for us, own in zip(microseconds, parts, strict=True) if own == part)
            for part in PARTS
        },
        steps={part: parts.count(part) for part in PARTS},
        measured=feeds is not None,
        runs=runs if feeds is not None else 0,
        gigabytes_per_second=bandwidth / 1e9,
        precision=plan.precision,
        plan=str(plan.report["model"]),
    )


def multiplies(step: Step) -> bool:
    """Whether the step is a product, and no copy that brings its operands or results to places."""
    return step.op in PRODUCTS and step.family != "copy"


def part_of(step: Step) -> Part:
    """The part of a run that a step belongs to."""
    if multiplies(step):
        return "integer products" if step.reads[0].startswith(BYTES) else "float products"
    return "conversions" if _converts(step) else "other"


def _converts(step: Step) -> bool:
    """Whether a step is there to take floats to bytes, or back, or to a grid and back."""
    if step.family == "eltwise":
        return step.op in ("QuantizeLinear", "DequantizeLinear")
    if step.family not in CONVERSIONS or step.op == "Cast":
        return False
    reads, writes = step.reads[0], step.writes[0]
    to_bytes = reads.startswith(FLOATS) and writes.startswith(BYTES)
    return to_bytes or (reads.startswith(BYTES) and writes.startswith(FLOATS))


def _measured(plan: Plan, feeds: Feeds, runs: int) -> list[float]:
    """Seconds of each step, the median of `runs` after two more."""
    for _ in range(2):
        plan.run(feeds)
    times = [[step.seconds for step in plan.trace(feeds)] for _ in range(runs)]
    return [statistics.median(of_step) for of_step in zip(*times, strict=True)]


def _bandwidth() -> float:
    """Bytes a second of one large copy, what it reads and writes together; the best of three."""
    import numpy as np

    source = np.ones(COPIED, np.uint8)
    target = np.zeros(COPIED, np.uint8)
    best = float("inf")
    for _ in range(3):
        start = time.perf_counter()
        np.copyto(target, source)
        best = min(best, time.perf_counter() - start)
    return 2 * COPIED / best


def _rows(plan: Plan, microseconds: Sequence[float]) -> Iterator[Int8Row]:
    steps = plan.steps
    said, lost = _refusals(plan, steps)
    readers: dict[int, list[int]] = {}
    for i, step in enumerate(steps):
        for before in step.after:
            readers.setdefault(before, []).append(i)
    op_types = {fact["node"]: fact["op_type"] for fact in _core.tensor_facts(plan._core)}
    for i, step in enumerate(steps):
        told = said.get(i, {})
        found = _finding(i, steps, readers, list(told))
        if found is None:
            continue
        products = (name for name in step.nodes if op_types.get(name) in PRODUCTS)
        node = (*told.values(), *products, *step.nodes, "")[0]
        yield Int8Row(i, found[0], step.op, node, step.nodes, found[1], microseconds[i])
    for where, reason in lost:
        yield Int8Row(-1, "pair", "", where, (where,), reason, 0.0)


def _refusals(
    plan: Plan, steps: Sequence[Step]
) -> tuple[dict[int, dict[str, str]], list[tuple[str, str]]]:
    """What passes about int8 say of steps: node by reason; (node, reason) where no step has it."""
    homes: dict[str, int] = {}
    for i, step in enumerate(steps):
        for name in step.nodes:
            # A product is what the refusal is about, whoever shares its node.
            if name not in homes or multiplies(step):
                homes[name] = i
    said: dict[int, dict[str, str]] = {}
    lost: list[tuple[str, str]] = []
    for from_pass, where, reason in plan.report["refusals"]:
        if from_pass not in PASSES:
            continue
        node = next((name for name in (where, *where.split(" + ")) if name in homes), None)
        if node is None:
            lost.append((where, reason))
            continue
        of_step = said.setdefault(homes[node], {})
        if not any(known.startswith(reason) for known in of_step):  # lowering says it again
            of_step[reason] = node
    return said, lost


def _finding(
    index: int, steps: Sequence[Step], readers: Mapping[int, Sequence[int]], said: Sequence[str]
) -> tuple[Kind, str] | None:
    """What a step has to do with int8 not being faster; None: nothing."""
    step = steps[index]
    part = part_of(step)
    told = "; ".join(said)
    if step.family == "reference" and (part != "other" or said):
        return "reference", "; ".join(["no kernel computes it", *said])
    if part == "float products":
        return "float product", told or "its input is not quantised"
    if told and part != "integer products":
        return "pair", told
    if part == "conversions":
        return "conversion", _why_alone(index, steps, readers)
    return None


def _why_alone(index: int, steps: Sequence[Step], readers: Mapping[int, Sequence[int]]) -> str:
    """Why a conversion is no part of a step beside it."""
    step = steps[index]
    if step.writes[0].startswith(FLOATS):
        after = _ops(steps[i] for i in readers.get(index, ()))
        return f"{after} reads floats" if after else "an output of the model is float"
    if step.family == "dynamic_quantize":
        return "its grid is found in each run"
    if not step.after:
        return "what it reads, an input of the model or a constant, is float"
    before = [steps[i] for i in step.after]
    unable = [s for s in before if s.family not in STORING]
    if unable:
        return f"{_ops(unable)} stores floats alone"
    return f"the floats of {_ops(before)} have other readers"


def _ops(steps: Iterator[Step] | Sequence[Step]) -> str:
    return " and ".join(dict.fromkeys(step.op.removeprefix("planck.") for step in steps))


def _nodes(row: Int8Row) -> str:
    """The node that a row is about, and how many more."""
    if not row.nodes:
        return f"({row.op.removeprefix('planck.')})"
    more = f" + {len(row.nodes) - 1} more" if len(row.nodes) > 1 else ""
    return clean(row.node, 48) + more

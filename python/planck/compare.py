"""`planck.compare`: every tensor of the model beside a reference, and which layer lost accuracy."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from planck import _core
from planck.arguments import expect_plan, expect_type, thread_count
from planck.calibration import write_text
from planck.data import Batches
from planck.plan import Plan

if TYPE_CHECKING:  # `import planck` is quick: NumPy comes with the first array
    from numpy.typing import NDArray

    from planck.plots import ComparePlots

    Array = NDArray[Any]
    Feeds = Mapping[str, Array]
    Reference = Literal["double", "onnxruntime"] | Mapping[str, Array] | Plan
    Tensors = Callable[[str], Array | None]

SCHEMA = 1
EXACT_DB = 400.0  # stands for "no error at all" in tables and sums
DEFAULT_DB = {"graph": 100.0, "fp32": 100.0}


@dataclass(frozen=True, slots=True)
class Errors:
    """How far a tensor is from its reference, over all samples.

    sqnr_db: 10 log10 of signal power over error power (400: no error). cosine: of the two tensors.
    max_abs: largest difference. median_relative: |difference| / |reference|, median of at most
    65,536 elements a sample, the largest of the samples' medians. argmax: share of rows along the
    last axis whose largest element is the same. misplaced: NaN or infinity on one side only.
    unequal: elements that differ at all.
    """

    sqnr_db: float
    cosine: float
    max_abs: float
    median_relative: float
    argmax: float
    misplaced: int
    unequal: int


@dataclass(frozen=True, slots=True)
class TensorRow:
    """One ONNX tensor. node, op_type: what produces it. step, kernel: of the plan.

    held: the plan holds the tensor. Otherwise it vanished inside a fused step and was evaluated
    again from that step's real inputs: its isolated error is zero by construction, `isolated` is
    None, and it gates nothing. cumulative: the whole run against the reference; isolated: this step
    alone, fed with the reference's inputs (None as well where an input is no ONNX tensor).
    """

    name: str
    node: str
    op_type: str
    step: int
    kernel: str
    held: bool
    dtype: str
    shape: tuple[int, ...]
    cumulative: Errors
    isolated: Errors | None

    @property
    def floating(self) -> bool:
        """Whether it holds floating-point numbers, which may differ; others must be equal."""
        return "float" in self.dtype

    def bad(self, min_sqnr_db: float) -> bool:
        """Whether the error is beyond the limit: isolated if it is known, else cumulative."""
        errors = self.isolated or self.cumulative
        if errors.misplaced > 0:
            return True
        return errors.sqnr_db < min_sqnr_db if self.floating else errors.unequal > 0


@dataclass(frozen=True, slots=True)
class CompareReport:
    """The result of `planck.compare`: rows in the model's order, and the first bad one.

    Prints as a table of the worst tensors; in a notebook as static HTML.
    """

    rows: tuple[TensorRow, ...]
    outputs: tuple[str, ...]
    reference: str
    samples: int
    min_sqnr_db: float
    plan: str = field(default="")

    @property
    def first_bad(self) -> TensorRow | None:
        """The first tensor in the model's order, held by the plan, whose error is too large."""
        return next((row for row in self.rows if row.held and row.bad(self.min_sqnr_db)), None)

    @property
    def ok(self) -> bool:
        """No tensor that the plan holds is bad, nor is any in the whole run."""
        return self.first_bad is None and not any(
            self._too_far(row) for row in self.rows if row.name in self.outputs
        )

    def _too_far(self, row: TensorRow) -> bool:
        if row.cumulative.misplaced > 0:
            return True
        if row.floating:
            return row.cumulative.sqnr_db < self.min_sqnr_db
        return row.cumulative.unequal > 0

    def worst(self, count: int = 10) -> tuple[TensorRow, ...]:
        """Rows by cumulative error, the largest first."""

        def key(row: TensorRow) -> tuple[bool, float]:
            errors = row.cumulative
            clean = errors.misplaced == 0 and (row.floating or errors.unequal == 0)
            return clean, errors.sqnr_db

        return tuple(sorted(self.rows, key=key)[:count])

    def row(self, name: str) -> TensorRow:
        """The row of a tensor. Errors: KeyError."""
        for row in self.rows:
            if row.name == name:
                return row
        raise KeyError(name)

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain values, with a schema number."""
        first = self.first_bad
        return {
            "schema": SCHEMA,
            "kind": "planck.compare",
            "plan": self.plan,
            "reference": self.reference,
            "samples": self.samples,
            "min_sqnr_db": self.min_sqnr_db,
            "ok": self.ok,
            "first_bad": first.name if first else None,
            "outputs": list(self.outputs),
            "tensors": [asdict(row) for row in self.rows],
        }

    def to_json(self, path: str | os.PathLike[str] | None = None) -> str:
        """The dictionary as JSON; also written to `path` if it is given. Errors: FileError."""
        return write_json(self.to_dict(), path)

    @property
    def plot(self) -> ComparePlots:
        """Pictures of the report; they need matplotlib."""
        from planck.plots import ComparePlots

        return ComparePlots(self)

    def to_frame(self) -> Any:
        """A pandas DataFrame, a row a tensor. Errors: ImportError without pandas."""
        import pandas

        return pandas.json_normalize([asdict(row) for row in self.rows])

    def table(self, count: int = 10) -> list[tuple[str, ...]]:
        """The worst tensors as cells of text under `HEADER`, names made harmless."""
        return [
            (
                clean(row.name),
                clean(row.op_type),
                _decibel(row.cumulative.sqnr_db),
                _decibel(row.isolated.sqnr_db) if row.isolated else ("-" if row.held else "re-ev."),
                f"{row.cumulative.cosine:.7f}",
                f"{row.cumulative.max_abs:.2e}",
                f"{row.cumulative.median_relative:.1e}",
                f"{row.cumulative.argmax:.0%}",
            )
            for row in self.worst(count)
        ]

    def __str__(self) -> str:
        """The worst ten tensors and the verdict, as text."""
        numbers = set(range(2, len(HEADER)))
        return "\n".join([*plain_table([HEADER, *self.table()], numbers), self.verdict])

    __repr__ = __str__

    @property
    def verdict(self) -> str:
        """One sentence: how many tensors, the worst, the first bad layer."""
        floats = [row for row in self.rows if row.floating]
        worst = min((row.cumulative.sqnr_db for row in floats), default=EXACT_DB)
        held = sum(row.held for row in self.rows)
        text = (
            f"{len(self.rows)} tensors ({held} held by the plan, the others re-evaluated) against "
            f"{self.reference}: lowest SQNR {_decibel(worst)} dB, limit {self.min_sqnr_db:g} dB"
        )
        first = self.first_bad
        if first is not None:
            return f"{text}. First bad layer: {clean(first.node)} ({first.op_type})"
        return f"{text}. {'No bad layer' if self.ok else 'No layer is bad alone, the sum is'}"

    def _repr_html_(self) -> str:
        return self.to_html()

    def to_html(self, count: int = 10) -> str:
        """Static HTML, every string of the model escaped, a bar for each SQNR."""
        import html

        cells = "".join(f"<th>{html.escape(name)}</th>" for name in HEADER)
        body = []
        for row, line in zip(self.worst(count), self.table(count), strict=True):
            width = max(0.0, min(100.0, row.cumulative.sqnr_db / 1.6))
            bar = (
                f'<svg width="100" height="10"><rect width="{width:.0f}" height="10" '
                f'fill="{"#c33" if self._too_far(row) else "#383"}"/></svg>'
            )
            tds = "".join(f"<td>{html.escape(cell)}</td>" for cell in line)
            body.append(f"<tr>{tds}<td>{bar}</td></tr>")
        return (
            f"<p>{html.escape(self.verdict)}</p><table><thead><tr>{cells}<th></th></tr></thead>"
            f"<tbody>{''.join(body)}</tbody></table>"
        )


HEADER = ("tensor", "op", "SQNR dB", "alone dB", "cosine", "max abs", "med rel", "argmax")


def _decibel(value: float) -> str:
    return "exact" if value >= EXACT_DB else f"{value:.1f}"


def plain_table(lines: Sequence[tuple[str, ...]], numbers: Set[int]) -> list[str]:
    """Lines of cells as aligned text; the columns of `numbers` to the right."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if i in numbers else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]


def write_json(data: Mapping[str, Any], path: str | os.PathLike[str] | None) -> str:
    """The data as JSON; also written to `path` if it is given. Errors: FileError."""
    import json

    text = json.dumps(data, indent=1)
    if path is not None:
        write_text(path, text + "\n")
    return text


def clean(text: str, width: int = 60) -> str:
    """A name as a terminal may show it: no control characters, bounded."""
    shown = "".join(c if c.isprintable() else "?" for c in text)
    return shown if len(shown) <= width else "..." + shown[3 - width :]


def compare(
    plan: Plan,
    reference: Reference = "double",
    data: Any = (),
    *,
    model: str | os.PathLike[str] | None = None,
    min_sqnr_db: float | None = None,
    isolated: bool = True,
    threads: int | None = None,
    progress: Callable[[float], object] | None = None,
) -> CompareReport:
    """Compares every tensor of the original model with a reference; the plan stays as it is.

    plan: built or loaded. data: one dictionary of feeds, or what `planck.calibrate` takes; each
    batch is held in memory.
    reference: "double" evaluates the original model in double precision, from the plan alone;
    "onnxruntime" runs `model` (by default the file that the plan was built from) with
    optimisations off; a dictionary gives tensors by ONNX name (for one sample); a Plan is tapped.
    min_sqnr_db: below it a tensor is bad (default 100 for fp32). isolated: also run each step alone
    on the reference's inputs. progress: gets a fraction, returns False to cancel.

    A tensor inside a fused step is evaluated again from the step's real inputs; its row says so.
    The mean or sum of a tensor is held against the scale of what it adds up. Memory stays near the
    size of the largest tensors: both sides advance together and drop what nobody reads any more.

    Errors: UsageError (no data, no model for "onnxruntime", a plan without its source graph, a
    reference that has none of the tensors), FeedError, RunError (a reference of another shape),
    CancelledError.

    >>> import tempfile, pathlib, planck, planck.models
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "bert.onnx"
    >>> planck.models.write("bert_encoder", path, size="mini")
    >>> feeds = planck.models.feeds("bert_encoder", (2, 5), size="mini")
    >>> report = planck.compare(planck.build(path), "double", feeds)
    >>> report.ok, report.first_bad
    (True, None)
    """
    plan = expect_plan(plan)
    expect_type("min_sqnr_db", min_sqnr_db, (int, float), "a number of decibels")
    expect_type("progress", progress, Callable, "a callback (fraction)")
    samples = list(Batches(data, plan.inputs, what="data"))
    if not samples:
        raise _core.UsageError("compare needs data: a dictionary of feeds, or several")
    source = _source(plan, reference, model)
    merged: dict[str, _Merge] = {}
    for index, feeds in enumerate(samples):
        step = _scaled(progress, index, len(samples))
        tensors = source.start(feeds)
        for row in _core.compare_tensors(
            plan._core, feeds, tensors, isolated, thread_count(threads), step
        ):
            merged.setdefault(row["name"], _Merge(row)).add(row)
    if source.partial and not merged:
        raise _core.UsageError("the reference has no tensor that a node of the model produces")
    limit = min_sqnr_db if min_sqnr_db is not None else DEFAULT_DB.get(plan.precision, 30.0)
    return CompareReport(
        rows=tuple(m.row() for m in merged.values()),
        outputs=tuple(port.name for port in plan.outputs),
        reference=source.name,
        samples=len(samples),
        min_sqnr_db=limit,
        plan=str(plan.report["model"]),
    )


def assert_accuracy(
    plan: Plan,
    reference: Reference = "double",
    data: Any = (),
    **options: Any,
) -> CompareReport:
    """`compare`, for tests: AssertionError with the table unless the report is ok.

    >>> import tempfile, pathlib, planck, planck.models
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "bert.onnx"
    >>> planck.models.write("bert_encoder", path, size="mini")
    >>> feeds = planck.models.feeds("bert_encoder", (1, 4), size="mini")
    >>> planck.assert_accuracy(planck.build(path), data=feeds).ok
    True
    """
    report = compare(plan, reference, data, **options)
    if not report.ok:
        raise AssertionError(f"accuracy is below the limit\n{report}")
    return report


def _scaled(
    progress: Callable[[float], object] | None, index: int, count: int
) -> Callable[[float], bool] | None:
    if progress is None:
        return None
    call = progress
    return lambda done: call((index + done) / count) is not False


class _Merge:
    """Sums of one tensor over samples."""

    SUMS = (
        "count",
        "reference2",
        "actual2",
        "error2",
        "dot",
        "argmax_rows",
        "argmax_equal",
        "misplaced",
        "unequal",
    )
    LARGEST = ("max_abs", "reference_max", "median_relative")

    def __init__(self, row: dict[str, Any]) -> None:
        self._first = row
        self._scale2 = 0.0
        self._cumulative: dict[str, float] = {}
        self._isolated: dict[str, float] = {}

    def add(self, row: dict[str, Any]) -> None:
        self._scale2 += row["scale2"]
        self._sum(self._cumulative, row["cumulative"])
        if row["isolated"] is not None:
            self._sum(self._isolated, row["isolated"])

    def _sum(self, into: dict[str, float], sums: dict[str, float]) -> None:
        for key in self.SUMS:
            into[key] = into.get(key, 0) + sums[key]
        for key in self.LARGEST:
            into[key] = max(into.get(key, 0.0), sums[key])

    def _errors(self, sums: dict[str, float]) -> Errors:
        signal = max(sums["reference2"], self._scale2)
        error = sums["error2"]
        if error == 0:
            sqnr = EXACT_DB
        elif signal == 0:  # a tensor of zeros: the error itself, against one
            sqnr = -20 * math.log10(sums["max_abs"])
        else:
            sqnr = 10 * math.log10(signal / error)
        norms = math.sqrt(sums["reference2"] * sums["actual2"])
        rows = sums["argmax_rows"]
        return Errors(
            sqnr_db=sqnr,
            cosine=sums["dot"] / norms if norms > 0 else 1.0,
            max_abs=sums["max_abs"],
            median_relative=sums["median_relative"],
            argmax=sums["argmax_equal"] / rows if rows else 1.0,
            misplaced=int(sums["misplaced"]),
            unequal=int(sums["unequal"]),
        )

    def row(self) -> TensorRow:
        first = self._first
        return TensorRow(
            name=first["name"],
            node=first["node"],
            op_type=first["op_type"],
            step=first["step"],
            kernel=first["kernel"],
            held=first["held"],
            dtype=first["dtype"],
            shape=tuple(first["shape"]),
            cumulative=self._errors(self._cumulative),
            isolated=self._errors(self._isolated) if self._isolated and first["held"] else None,
        )


class _Source:
    """Where reference tensors come from. start(feeds): by name for one sample; None: in double."""

    name = "double"
    partial = False  # it may lack tensors, perhaps all

    def start(self, feeds: Feeds) -> Tensors | None:
        return None


class _Saved(_Source):
    name = "saved tensors"
    partial = True

    def __init__(self, tensors: Mapping[str, Array]) -> None:
        self._tensors = tensors

    def start(self, feeds: Feeds) -> Tensors:
        return self._tensors.get


class _OtherPlan(_Source):
    partial = True

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self.name = f"plan {plan.report['model']}"

    def start(self, feeds: Feeds) -> Tensors:
        return self._plan.taps(feeds).get


class _OnnxRuntime(_Source):
    """All tensors of the model as outputs of one session; a run fetches a stretch of them."""

    name = "onnxruntime"
    partial = True
    STRETCH = 48  # tensors of one run: bounds memory, costs a run each

    def __init__(self, plan: Plan, model: str | os.PathLike[str] | None) -> None:
        path = os.fspath(model) if model is not None else str(plan.report["model"])
        if not path.endswith(".onnx") or not os.path.exists(path):
            raise _core.UsageError(
                "reference='onnxruntime' needs the ONNX file: pass model='...' "
                f"(the plan came from '{path}')"
            )
        wanted = {fact["name"] for fact in _core.tensor_facts(plan._core)}
        self._session, self._names = _all_outputs(path, wanted)
        self._place = {name: i for i, name in enumerate(self._names)}

    def start(self, feeds: Feeds) -> Tensors:
        given = dict(feeds)
        types = {i.name: i.type for i in self._session.get_inputs()}
        for name, array in given.items():
            if types.get(name) == "tensor(int64)" and array.dtype == "int32":
                given[name] = array.astype("int64")
        cache: dict[int, dict[str, Array]] = {}

        def fetch(name: str) -> Array | None:
            place = self._place.get(name)
            if place is None:
                return None
            stretch = place // self.STRETCH
            if stretch not in cache:
                while len(cache) > 2:
                    cache.pop(next(iter(cache)))
                first = stretch * self.STRETCH
                names = self._names[first : first + self.STRETCH]
                cache[stretch] = dict(zip(names, self._session.run(names, given), strict=True))
            return cache[stretch][name]

        return fetch


def _all_outputs(path: str, wanted: set[str]) -> tuple[Any, list[str]]:
    """A session with optimisations off whose outputs are all tensors of the main graph."""
    try:
        import onnx
        import onnxruntime
    except ImportError as error:
        raise _core.UsageError(
            f"reference='onnxruntime' needs the packages onnx and onnxruntime: {error}"
        ) from error
    model = onnx.load(path, load_external_data=False)
    known = {output.name for output in model.graph.output}
    names: list[str] = []
    for node in model.graph.node:
        for name in node.output:
            if not name or name not in wanted:
                continue
            names.append(name)
            if name not in known:
                model.graph.output.append(onnx.ValueInfoProto(name=name))
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    folder = os.path.dirname(os.path.abspath(path))
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", folder)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return session, names


def _source(plan: Plan, reference: Reference, model: str | os.PathLike[str] | None) -> _Source:
    if isinstance(reference, Plan):
        return _OtherPlan(reference)
    if isinstance(reference, Mapping):
        return _Saved(reference)
    if reference == "double":
        return _Source()
    if reference == "onnxruntime":
        return _OnnxRuntime(plan, model)
    raise _core.UsageError(
        f"reference is {reference!r}; expected 'double', 'onnxruntime', tensors by name, or a Plan"
    )

"""Calibration: what the tensors of a model hold over a data set, and the int8 grids that follow."""

from __future__ import annotations

import errno
import json
import logging
import math
import numbers
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NoReturn

from planck import _core
from planck.arguments import by_name, path_of

if TYPE_CHECKING:  # `import planck` is quick: NumPy comes with the first array
    from numpy.typing import NDArray

    from planck.plots import CalibrationPlots

    Array = NDArray[Any]

GridType = Literal["s8", "u8"]
GRIDS: dict[str, tuple[int, int]] = {"s8": (-128, 127), "u8": (0, 255)}
SCALES_FORMAT = "planck.scales"
SCALES_VERSION = 1
SMALLEST_SCALE = 2.0**-126  # smaller ones are no normal float32


@dataclass(frozen=True, slots=True, eq=False)
class TensorScale:
    """The int8 grid of one tensor: real = scale * (q - zero_point).

    scale: float32[n], zero_point: int32[n]; n is 1, or the tensor's extent along `axis`.
    dtype: "s8" (q in [-128, 127]) or "u8" (q in [0, 255]). axis: None for one scale a tensor.
    threshold: the |x| beyond which a symmetric grid saturates; None where it is not known. note:
    what is special about it, such as "dead" (only zeros were seen).
    Errors: CalibrationError names the tensor.

    >>> grid = TensorScale("x", [0.5], [0], "s8")
    >>> grid.scale, grid.axis
    (array([0.5], dtype=float32), None)
    >>> try:
    ...     TensorScale("x", [0.0], [0], "s8")
    ... except _core.CalibrationError as error:
    ...     print(error)
    tensor 'x' has the scale 0.0; expected a finite number above 0
    """

    name: str
    scale: NDArray[Any]
    zero_point: NDArray[Any]
    dtype: GridType = "s8"
    axis: int | None = None
    threshold: float | None = None
    note: str = ""

    def __post_init__(self) -> None:
        import numpy as np

        if not isinstance(self.name, str):
            raise self._error(f"is named by a {type(self.name).__name__}; expected text")
        if self.axis is not None and not isinstance(self.axis, int):
            raise self._error(f"has the axis {self.axis!r}; expected a whole number or None")
        if self.dtype not in GRIDS:
            raise self._error(f"has the type {self.dtype!r}; expected 's8' or 'u8'")
        try:
            scale = np.array(self.scale, dtype=np.float32).reshape(-1)
        except (TypeError, ValueError):
            raise self._error(f"has the scales {self.scale!r}; expected numbers") from None
        given = np.asarray(self.zero_point).reshape(-1)
        if not np.issubdtype(given.dtype, np.integer):
            raise self._error(f"has zero points of type {given.dtype}; expected integers")
        low, high = GRIDS[self.dtype]
        for value in scale[~(np.isfinite(scale) & (scale > 0))][:1]:
            raise self._error(f"has the scale {value}; expected a finite number above 0")
        for value in given[(given < low) | (given > high)][:1]:
            raise self._error(f"has the zero point {value}, outside [{low}, {high}]")
        if scale.size != given.size:
            raise self._error(f"has {scale.size} scales and {given.size} zero points")
        if scale.size == 0 or (self.axis is None and scale.size != 1):
            raise self._error(f"has {scale.size} scales; expected one, or an axis")
        zero_point = given.astype(np.int32)
        scale.flags.writeable = zero_point.flags.writeable = False
        object.__setattr__(self, "scale", scale)
        object.__setattr__(self, "zero_point", zero_point)

    def _error(self, what: str) -> _core.Error:
        return _core.CalibrationError(f"tensor {self.name!r} {what}")

    def __repr__(self) -> str:
        """One line, however many scales there are.

        >>> TensorScale("x", [0.5], [3], "u8")
        TensorScale('x', u8, scale 0.5, zero point 3)
        """
        note = f", {self.note}" if self.note else ""
        if self.axis is None:
            grid = f"scale {self.scale[0]:.6g}, zero point {self.zero_point[0]}"
        else:
            low, high = self.scale.min(), self.scale.max()
            grid = f"{self.scale.size} scales {low:.3g} to {high:.3g} along axis {self.axis}"
        return f"TensorScale({self.name!r}, {self.dtype}, {grid}{note})"

    def __eq__(self, other: object) -> bool:
        """The same grid for the same tensor, bit for bit."""
        if not isinstance(other, TensorScale):
            return NotImplemented
        return self._row() == other._row()

    def __hash__(self) -> int:
        return hash(self.name)

    def _row(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "dtype": self.dtype,
            "scale": [float(s) for s in self.scale],
            "zero_point": [int(z) for z in self.zero_point],
            "axis": self.axis,
            "threshold": self.threshold,
            "note": self.note,
        }


class Scales(Mapping[str, TensorScale]):
    """Int8 grids by tensor name, in order: what `Calibration.solve` and scale files give.

    kind: where they come from ("calibration", "ranges", or a file format). method: how thresholds
    were found, empty where a file does not say. notes: warnings and what was assumed. model_hash:
    SHA-256 of the model file (see `model_hash`), empty where it is not known. layers: names of
    weights, each with the tensors that feed its layer; where there are any, only these layers are
    to be quantised (`only_bound`).
    Errors: CalibrationError for a name that comes twice.

    >>> scales = Scales.from_ranges({"a": 127.0, "b": 0.0})
    >>> scales["a"].scale, scales["b"].note
    (array([1.], dtype=float32), 'dead')
    >>> Scales.from_json(scales.to_json()) == scales
    True
    """

    def __init__(
        self,
        tensors: Iterable[TensorScale],
        *,
        kind: str,
        method: str = "",
        model_hash: str = "",
        notes: Iterable[str] = (),
        layers: Mapping[str, Iterable[str]] | None = None,
    ) -> None:
        self.layers = {weight: tuple(names) for weight, names in (layers or {}).items()}
        self.kind = kind
        self.method = method
        self.model_hash = model_hash
        self.notes = list(notes)
        self._tensors: dict[str, TensorScale] = {}
        for tensor in tensors:
            if tensor.name in self._tensors:
                raise _core.CalibrationError(f"tensor {tensor.name!r} has two scales")
            self._tensors[tensor.name] = tensor

    @property
    def names(self) -> tuple[str, ...]:
        """The tensors that have a grid, in order."""
        return tuple(self._tensors)

    @property
    def only_bound(self) -> bool:
        """Whether only the layers of `layers` are to be quantised."""
        return bool(self.layers)

    def __getitem__(self, name: str) -> TensorScale:
        return self._tensors[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    def __eq__(self, other: object) -> bool:
        """The same grids in the same order, from the same place."""
        if not isinstance(other, Scales):
            return NotImplemented
        return self._to_dict() == other._to_dict()

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        """One line: how many tensors, where they came from, how many notes."""
        method = f", {self.method}" if self.method else ""
        return f"Scales({len(self)} tensors, {self.kind}{method}, {len(self.notes)} notes)"

    @classmethod
    def from_ranges(
        cls, ranges: Mapping[str, float], *, kind: str = "ranges", method: str = ""
    ) -> Scales:
        """Symmetric s8 grids from the largest |x| of each tensor; scale = absmax / 127.

        A range of 0 gives the scale 1 and the note "dead". Errors: CalibrationError for a range
        that is negative, NaN or infinite.
        """
        tensors = []
        for name, absmax in by_name("ranges", ranges, "the largest |x|").items():
            if not isinstance(absmax, numbers.Real):
                raise _core.CalibrationError(
                    f"tensor {name!r} has the range {absmax!r}; expected a number"
                )
            absmax = float(absmax)
            if not math.isfinite(absmax) or absmax < 0:
                raise _core.CalibrationError(
                    f"tensor {name!r} has the range {absmax}; expected a finite number, at least 0"
                )
            scale = max(absmax / 127.0, SMALLEST_SCALE) if absmax > 0 else 1.0
            note = "" if absmax > 0 else "dead"
            tensors.append(_grid(name, [scale], [0], "s8", None, float(absmax), note))
        return cls(tensors, kind=kind, method=method)

    def solve(self, method: str | None = None, **options: Any) -> NoReturn:
        """Scales hold no histograms, so that no other method can be tried. Errors: UsageError."""
        raise _core.UsageError(
            f"these scales ({self.kind}, {len(self)} tensors) have no histograms to solve"
            + (f" by {method!r}" if method else "")
            + "; planck.calibrate and planck.Calibration.load give what has them"
        )

    def _to_dict(self) -> dict[str, Any]:
        return {
            "format": SCALES_FORMAT,
            "version": SCALES_VERSION,
            "kind": self.kind,
            "method": self.method,
            "model_hash": self.model_hash,
            "notes": self.notes,
            "tensors": [tensor._row() for tensor in self._tensors.values()],
            **({"layers": self.layers} if self.layers else {}),
        }

    def to_json(self, path: str | os.PathLike[str] | None = None) -> str:
        """Everything as JSON, exactly; also written to `path` if it is given. Errors: FileError."""
        text = json.dumps(self._to_dict(), indent=1)
        if path is not None:
            write_text(path, text + "\n")
        return text

    def to_trt_cache(
        self,
        path: str | os.PathLike[str] | None = None,
        header: str = "TRT-8600-EntropyCalibration2",
    ) -> str:
        """The scales as TensorRT's calibration cache, in their order; also written to `path`.

        Scales along an axis are left out: they belong to weights. A grid with a zero point is
        widened to the symmetric one that holds it. Errors: UsageError for a header or name that a
        cache cannot hold, FileError.

        >>> print(Scales.from_ranges({"x": 1.0}).to_trt_cache(), end="")
        TRT-8600-EntropyCalibration2
        x: 3c010204
        """
        from planck.scale_files import trt_cache_text

        text = trt_cache_text(self, header).decode()
        if path is not None:
            write_text(path, text)
        return text

    @classmethod
    def from_json(cls, source: str | os.PathLike[str]) -> Scales:
        """Reads what `to_json` gave: the text (it begins with a brace) or the path of a file.

        Errors: CorruptError (no such JSON), VersionError (a newer format), CalibrationError (a
        grid that cannot be), FileError.
        """
        if isinstance(source, str) and source.lstrip().startswith("{"):
            text = source
        else:
            text = read_text(source)
        try:
            root = json.loads(text)
            if root["format"] != SCALES_FORMAT:
                raise _core.CorruptError(f"this is {root['format']!r}, expected {SCALES_FORMAT!r}")
            if root["version"] != SCALES_VERSION:
                raise _core.VersionError(
                    f"the scales have format {root['version']}; this Planck reads {SCALES_VERSION}"
                )
            rows = [_grid(**row) for row in root["tensors"]]
            return cls(
                rows,
                kind=root["kind"],
                method=root["method"],
                model_hash=root["model_hash"],
                notes=root["notes"],
                layers=root.get("layers"),
            )
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            if isinstance(error, _core.Error):
                raise
            raise _core.CorruptError(f"these are not the scales of Planck: {error!r}") from error


def _grid(
    name: str,
    scale: list[float],
    zero_point: list[int],
    dtype: GridType,
    axis: int | None,
    threshold: float | None,
    note: str,
) -> TensorScale:
    import numpy as np

    points = np.asarray(zero_point)
    return TensorScale(name, np.asarray(scale, np.float32), points, dtype, axis, threshold, note)


def model_hash(model: str | os.PathLike[str] | bytes) -> str:
    """SHA-256 of an ONNX file (path or bytes), in hexadecimal; external weights are not read.

    Errors: FileError.

    >>> model_hash(b"")[:8]
    'e3b0c442'
    """
    import hashlib  # slow to load, and seldom needed

    digest = hashlib.sha256()
    if isinstance(model, bytes):
        digest.update(model)
        return digest.hexdigest()
    try:
        with open(model, "rb") as file:
            while piece := file.read(1 << 20):
                digest.update(piece)
    except OSError as error:
        raise _core.FileError(f"cannot read '{os.fspath(model)}': {error}") from error
    return digest.hexdigest()


def read_text(path: str | os.PathLike[str]) -> str:
    """A text file as it is. Errors: FileError; CorruptError where it is not UTF-8."""
    try:
        with open(path, encoding="utf-8", newline="") as file:
            return file.read()
    except OSError as error:
        raise _core.FileError(f"cannot read '{os.fspath(path)}': {error}") from error
    except UnicodeDecodeError as error:
        raise _core.CorruptError(f"'{os.fspath(path)}' is not UTF-8: {error}") from error


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Writes a file that is whole or absent: a temporary one beside it, then a rename.

    A link stays one, and what is no file, such as /dev/null, is written to as it is. Errors:
    FileError.
    """
    target = os.path.realpath(path_of(path))
    through = os.path.exists(target) and not os.path.isfile(target)
    beside = target if through else f"{target}.{os.getpid()}.tmp"
    try:
        with open(beside, "w", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            if not through:
                os.fsync(file.fileno())
                os.replace(beside, target)
    except OSError as error:
        if not through and os.path.exists(beside):
            os.unlink(beside)
        failed = _core.FileError(f"cannot write '{path_of(path)}': {error.strerror}")
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            failed.hint = "free some space, or write to another device"
        raise failed from error


@dataclass(frozen=True, slots=True)
class TensorRange:
    """One row of `Calibration.table`: what a tensor held, and its grid.

    count: finite elements; zeros and nonfinite: how many; min, max: of the finite ones. clipped:
    share of the elements with |x| beyond the threshold. sqnr_db: signal to quantisation noise that
    the histogram lets expect (400: no loss). lost_db: how much worse than the least error of such a
    grid. group: tensors with one number share a grid; -1: none.
    """

    grid: TensorScale
    count: int
    zeros: int
    nonfinite: int
    min: float
    max: float
    clipped: float
    sqnr_db: float
    lost_db: float
    group: int


class Calibration:
    """Statistics of a model's tensors over a data set, as `planck.calibrate` gives them.

    Counts are whole numbers in bins that merge exactly: shards of a data set give the same bytes
    in any number and order. No method of it changes the statistics.
    """

    def __init__(self, core: _core.Calibration) -> None:
        self._core = core
        self._facts = core.facts

    @property
    def names(self) -> tuple[str, ...]:
        """The observed tensors, in the model's order."""
        return tuple(self._facts["tensors"])

    @property
    def samples(self) -> int:
        """Samples seen: the sum of the batches' sizes."""
        return int(self._facts["samples"])

    @property
    def batches(self) -> int:
        """Runs of the model."""
        return int(self._facts["batches"])

    @property
    def bytes_read(self) -> int:
        """Bytes of the arrays that were fed."""
        return int(self._facts["bytes"])

    @property
    def method(self) -> str:
        """The method that `solve` takes unless it is told another."""
        return str(self._facts["method"])

    @property
    def model_hash(self) -> str:
        """SHA-256 of the model file."""
        return str(self._facts["model_hash"])

    @property
    def engine(self) -> str:
        """The version of Planck that wrote the file this came from; empty before that."""
        return str(self._facts["engine"])

    @property
    def skipped(self) -> tuple[str, ...]:
        """Tensors that were asked for, but hold no floating-point numbers."""
        return tuple(self._facts["skipped"])

    def merge(self, other: Calibration) -> Calibration:
        """The statistics of both data sets together; neither changes.

        Errors: UsageError for anything but a Calibration; CalibrationError names what differs
        (model, options, tensors), or for exact=True a tensor whose ranges differ.
        """
        if not isinstance(other, Calibration):
            raise _core.UsageError(
                f"merge takes a planck.Calibration, not {type(other).__name__}: scales alone "
                "have no histograms"
            )
        merged = self._core.copy()
        merged.merge(other._core)
        return Calibration(merged)

    def solve(self, method: str | None = None, **options: Any) -> Scales:
        """Grids for all tensors; another method or option needs no new run of the model.

        method: "auto" (least expected error, the maximum where that loses at most 0.1 dB),
        "entropy", "minmax", "percentile", "mse", "legacy"; None takes that of `calibrate`.
        options: percentile (of 100); zero_policy "skip" or "keep" and trt_compat (entropy);
        quantile and cutoff (legacy); activation "auto", "s8" (symmetric) or "u8" (with a zero
        point); shared_ranges "auto" (one grid for the inputs and the output of a Concat or
        MaxPool) or "off".
        A note names every tensor that loses more than 3 dB against "mse".
        Errors: UsageError; CalibrationError names a tensor that no data reached.
        """
        rows, name, notes = self._core.solve(self._options(method, options))
        for note in notes:
            logging.getLogger("planck").warning("%s", note)
        return Scales(
            [_grid(**row) for row in rows],
            kind="calibration",
            method=name,
            model_hash=self.model_hash,
            notes=notes,
        )

    def to_trt_cache(
        self,
        path: str | os.PathLike[str] | None = None,
        header: str = "TRT-8600-EntropyCalibration2",
        method: str | None = None,
        **options: Any,
    ) -> str:
        """TensorRT's calibration cache of these statistics; also written to `path`.

        Its scales are symmetric, and its tensors in the model's order. method, options: as for
        `solve`. A cache covers what was observed: `planck.calibrate(tensors="all")` for TensorRT
        itself, which wants every tensor. Errors: those of `solve` and of `Scales.to_trt_cache`.
        """
        scales = self.solve(method, **{"activation": "s8", **options})
        return scales.to_trt_cache(path, header)

    def table(self, method: str | None = None, **options: Any) -> tuple[TensorRange, ...]:
        """A row a tensor, with the grid that `solve` with the same arguments gives it."""
        keys = tuple(TensorScale.__dataclass_fields__)
        rows = []
        for row in self._core.report(self._options(method, options)):
            grid = _grid(**{key: row.pop(key) for key in keys})
            rows.append(TensorRange(grid, **row))
        return tuple(rows)

    def report(self, method: str | None = None, **options: Any) -> str:
        """What was read, and a line a tensor: range, threshold, clipped mass, expected SQNR."""
        name = method or self.method
        lines = [
            f"{self.samples} samples in {self.batches} batches, {self.bytes_read} bytes read; "
            f"{len(self.names)} tensors, {len(self.skipped)} skipped; method {name}",
            f"{'tensor':<40} {'min':>11} {'max':>11} {'zeros':>7} {'threshold':>11} "
            f"{'grid':>7} {'clipped':>9} {'SQNR dB':>8} {'lost dB':>8}",
        ]
        for row in self.table(method, **options):
            grid = row.grid
            kind = f"{grid.dtype}{int(grid.zero_point[0]):+d}"
            shown = grid.name if len(grid.name) <= 40 else "..." + grid.name[-37:]
            zeros = row.zeros / row.count if row.count else 0.0
            note = f"  {grid.note}" if grid.note else ""
            lines.append(
                f"{shown:<40} {row.min:>11.4g} {row.max:>11.4g} {zeros:>7.1%} "
                f"{grid.threshold or 0:>11.4g} {kind:>7} {row.clipped:>9.2e} {row.sqnr_db:>8.1f} "
                f"{row.lost_db:>8.1f}{note}"
            )
        notes = self._core.solve(self._options(method, options))[2]
        return "\n".join([*lines, *(f"note: {note}" for note in notes)])

    def channel_absmax(self, name: str) -> Array:
        """The largest |x| of each channel of a tensor, float32[channels].

        Channels are the last axis for inputs of matrix products, axis 1 for those of convolutions.
        Errors: UsageError for a tensor that was not observed; CalibrationError where channels were
        not asked for (`per_channel`) or their number varies from run to run.
        """
        ranges = self._core.channel_absmax(name)
        if ranges is None:
            raise _core.CalibrationError(
                f"tensor {name!r} has no ranges of channels: they were not asked for "
                "(per_channel=), or their number varies"
            )
        return ranges

    def histogram(self, name: str) -> dict[str, Any]:
        """The statistics of a tensor.

        count, zeros, nonfinite, min, max, exponent; neg and pos, int64[4096]: how many elements of
        that sign have floor(|x| * 2**(12 - exponent)) == j. Zeros are in no bin.
        Errors: UsageError.
        """
        return self._core.histogram(name)

    def divergence(self, name: str, zero_policy: str = "skip") -> tuple[Array, Array]:
        """Thresholds that the method "entropy" tries, and the KL divergence of each, float64.

        Errors: UsageError.
        """
        return self._core.divergences(name, zero_policy)

    def error(self, name: str, thresholds: Iterable[float], dtype: GridType = "s8") -> Array:
        """The mean squared error that a grid of each threshold lets expect, float64.

        Errors: UsageError.
        """
        return self._core.errors(name, dtype, [float(t) for t in thresholds])

    @property
    def plot(self) -> CalibrationPlots:
        """Pictures of the statistics; they need matplotlib."""
        from planck.plots import CalibrationPlots

        return CalibrationPlots(self)

    def to_bytes(self) -> bytes:
        """The calibration file: the same statistics give the same bytes."""
        return self._core.to_bytes()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the calibration file, whole or not at all. Errors: FileError."""
        self._core.save(os.fspath(path))

    @classmethod
    def from_bytes(cls, data: bytes) -> Calibration:
        """What `to_bytes` gave. Errors: CorruptError, VersionError.

        >>> try:
        ...     Calibration.from_bytes(b"cache")
        ... except _core.CorruptError as error:
        ...     print(error)
        this is not a calibration of Planck: it does not begin with the magic
        """
        if not isinstance(data, bytes):
            raise _core.UsageError(f"data is {type(data).__name__}; expected bytes")
        return cls(_core.read_calibration(data))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Calibration:
        """Reads a calibration file, which holds no code.

        Errors: CorruptError, VersionError, FileError.
        """
        return cls(_core.load_calibration(os.fspath(path)))

    def __reduce__(self) -> tuple[Any, ...]:
        """Travels between processes as its file."""
        return Calibration.from_bytes, (self.to_bytes(),)

    def __eq__(self, other: object) -> bool:
        """The same statistics of the same model, bit for bit."""
        if not isinstance(other, Calibration):
            return NotImplemented
        return self.to_bytes() == other.to_bytes()

    __hash__ = None  # type: ignore[assignment]

    def _repr_html_(self) -> str:
        """The calibration in a notebook: a row for each tensor."""
        from planck.markup import table

        rows = (
            (
                row.grid.name,
                f"{row.min:.4g}",
                f"{row.max:.4g}",
                f"{row.grid.threshold or 0:.4g}",
                f"{row.grid.dtype}{int(row.grid.zero_point[0]):+d}",
                f"{row.clipped:.2e}",
                f"{row.sqnr_db:.1f}",
            )
            for row in self.table()
        )
        return table(
            repr(self), ("tensor", "min", "max", "threshold", "grid", "clipped", "SQNR dB"), rows
        )

    def __repr__(self) -> str:
        """One line: tensors, samples, method."""
        return (
            f"Calibration({len(self.names)} tensors, {self.samples} samples in {self.batches} "
            f"batches, {self.method})"
        )

    def _options(self, method: str | None, options: Mapping[str, Any]) -> dict[str, Any]:
        chosen = dict(options)
        if method is not None:
            chosen["method"] = method
        return chosen

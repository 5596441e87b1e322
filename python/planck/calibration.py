"""Calibration: what the tensors of a model hold over a data set, and the int8 grids that follow."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from planck import _core

if TYPE_CHECKING:  # `import planck` is quick: NumPy comes with the first array
    from numpy.typing import NDArray

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
    >>> TensorScale("x", [0.0], [0], "s8")
    Traceback (most recent call last):
    planck.CalibrationError: tensor 'x' has the scale 0.0; expected a finite number above 0
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
        scale = np.array(self.scale, dtype=np.float32).reshape(-1)
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
        for name, absmax in ranges.items():
            if not math.isfinite(absmax) or absmax < 0:
                raise _core.CalibrationError(
                    f"tensor {name!r} has the range {absmax}; expected a finite number, at least 0"
                )
            scale = max(absmax / 127.0, SMALLEST_SCALE) if absmax > 0 else 1.0
            note = "" if absmax > 0 else "dead"
            tensors.append(_grid(name, [scale], [0], "s8", None, float(absmax), note))
        return cls(tensors, kind=kind, method=method)

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
    """Writes a file that is whole or absent: a temporary one beside it, then a rename."""
    target = os.fspath(path)
    beside = f"{target}.{os.getpid()}.tmp"
    try:
        with open(beside, "w", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, target)
    except OSError as error:
        if os.path.exists(beside):
            os.unlink(beside)
        raise _core.FileError(f"cannot write '{target}': {error}") from error

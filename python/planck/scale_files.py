"""`planck.import_scales`: scales of other tools, for the tensors of a model."""

from __future__ import annotations

import importlib
import io
import os
import stat
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from planck import _core
from planck.arguments import model_of, path_of
from planck.calibration import Scales, TensorScale, model_hash

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

MOST_BYTES = 256 << 20  # of a scale file, unpacked
MOST_ENTRIES = 1_000_000
CALIBRATION = b"\x89PLKCAL\n"  # how a calibration file of ours begins
FLATBUFFERS = "ort_flatbuffers"


def scale_kinds() -> dict[str, str]:
    """The kinds of scale files by name, each with what its numbers are.

    >>> scale_kinds()["tao"]
    'ranges, in spite of the name tensor_scales'
    """
    return {**dict(_core.scale_formats()), FLATBUFFERS: "ranges, as text of unreliable sign"}


def import_scales(
    source: str | os.PathLike[str] | bytes, kind: str = "auto", model: Any = None
) -> Scales:
    """Reads a scale file of another tool, or our own, and binds it to the tensors of a model.

    Our own are the JSON of `Scales.to_json` and the file of `Calibration.save`, which is solved by
    the method that it names.

    source: a path, or the bytes of a file. kind: "auto", or a name out of `scale_kinds()`. Ranges
    and scales differ by 127; which of them a file holds follows from its format, never from the
    size of its numbers, and the first of `Scales.notes` says what was assumed.
    model: an ONNX file, its bytes or a ModelProto. With it names are looked up in the model, as
    they are and then without regard to punctuation; the result has its tensors in topological
    order, and the notes say how many tensors are covered and which names are not the model's. QAT
    buffers (`<module>._input_quantizer._amax`) need it: `Scales.layers` then names the bound
    weights, and only those layers are to be quantised.
    Errors: UsageError (unknown kind), ParseError (the file is not of it), CalibrationError
    (numbers that cannot be, a file that covers no tensor of the model), CorruptError and
    VersionError (our own JSON),
    FileError, LimitError.

    >>> scales = import_scales(b"TRT-8600-EntropyCalibration2\\nx: 3c010204\\n")
    >>> scales["x"].scale, scales.method
    (array([0.00787402], dtype=float32), 'entropy')
    >>> scales.notes[0]
    'taken for trt_cache: scales: hexadecimal bits of threshold / 127'
    """
    if kind != "auto" and kind not in scale_kinds():
        raise _error(
            _core.UsageError,
            f"no scale file has the kind {kind!r}",
            expected=", ".join(["auto", *scale_kinds()]),
        )
    data = source if isinstance(source, bytes) else _read(path_of(source, "source"))
    scales = _parsed(data, kind)
    if model is None:
        if scales.kind == "qat_amax":
            scales.notes.append("the names are those of quantizers; model= binds them to tensors")
        return scales
    from planck.bind_scales import bound

    content = model_of(model)
    return bound(scales, content, model_hash(content))


def trt_cache_text(scales: Mapping[str, TensorScale], header: str) -> bytes:
    """The scales as TensorRT's calibration cache, in their order.

    Grids along an axis, which belong to weights, are left out; a grid with a zero point is widened
    to the symmetric one that holds it. Errors: UsageError for a header or name that a cache cannot
    hold.
    """
    rows = [(g.name, _symmetric(g)) for g in scales.values() if g.scale.size == 1]
    return _core.trt_cache_text(header, rows)


def _symmetric(grid: TensorScale) -> float:
    """The scale of the symmetric grid; 0 for a tensor of zeros, as TensorRT writes it."""
    scale, point = float(grid.scale[0]), int(grid.zero_point[0])
    if grid.threshold == 0:
        return 0.0
    if grid.dtype == "s8" and point == 0:
        return scale
    low = 0 if grid.dtype == "u8" else -128
    return max(point - low, low + 255 - point) * scale / 127


def _error(kind: Any, message: str, **fields: str) -> _core.Error:
    error: _core.Error = kind(message)
    for name, text in fields.items():
        setattr(error, name, text)
    return error


def _read(path: str | os.PathLike[str]) -> bytes:
    """A regular file of at most MOST_BYTES. Errors: FileError, LimitError."""
    name = os.fspath(path)
    try:
        if not stat.S_ISREG(os.stat(name).st_mode):  # a pipe would block
            raise _core.FileError(f"'{name}' is not a regular file")
        with open(name, "rb") as file:
            _within(os.fstat(file.fileno()).st_size, f"'{name}'")
            return file.read(MOST_BYTES)
    except (OSError, ValueError) as error:
        if isinstance(error, _core.Error):
            raise
        raise _core.FileError(f"cannot read '{name}': {error}") from error


def _within(need: int, what: str) -> None:
    if need <= MOST_BYTES:
        return
    error = _core.LimitError(f"{what} has {need} bytes; scale files may have {MOST_BYTES}")
    error.limit, error.need, error.option = MOST_BYTES, need, "scale_bytes"
    raise error


def _parsed(data: bytes, kind: str) -> Scales:
    if data.startswith(CALIBRATION):
        calibration = importlib.import_module("planck.calibration").Calibration
        solved: Scales = calibration.from_bytes(data).solve()
        return solved
    if data.startswith(b"PK\x03\x04"):
        if kind not in ("auto", "qat_amax"):
            raise _error(_core.ParseError, f"this is an .npz file, not {kind}", expected=kind)
        return _from_npz(data, kind)
    if kind == FLATBUFFERS:
        return _from_flatbuffers(data, kind)
    if kind == "auto" and b"\0" in data:
        return _from_binary(data)
    if (_core.scale_kind(data) if kind == "auto" else kind) == "planck":
        return Scales.from_json(data.decode("utf-8", "backslashreplace"))
    return _scales_of(_core.read_scales(data, kind))


def _scales_of(facts: Mapping[str, Any]) -> Scales:
    tensors = [TensorScale(**row) for row in facts["tensors"]]
    return Scales(tensors, **{k: facts[k] for k in ("kind", "method", "model_hash", "notes")})


def _assumed(kind: str, name: str) -> str:
    return f"{'taken for' if kind == 'auto' else 'read as'} {name}: {scale_kinds()[name]}"


# --- QAT buffers as .npz


def _from_npz(data: bytes, kind: str) -> Scales:
    """Arrays whose names end in _amax, as ranges. Errors: ParseError, CalibrationError."""
    tensors, others = [], 0
    for name, array in _arrays(data):
        if not name.endswith("_amax"):
            others += 1
            continue
        tensors.append(range_grid(name, array, 0 if array.size > 1 else None))
    if not tensors:
        raise _error(_core.ParseError, "the .npz file has no array whose name ends in _amax")
    notes = [_assumed(kind, "qat_amax")]
    if others:
        notes.append(f"{others} arrays that are no amax were left out")
    return Scales(tensors, kind="qat_amax", notes=notes)


def range_grid(name: str, ranges: Array, axis: int | None) -> TensorScale:
    """The symmetric s8 grid of ranges (absmax); 0 gives the scale 1. Errors: CalibrationError."""
    import numpy as np

    values = np.asarray(ranges, np.float64).reshape(-1)
    for value in values[~(np.isfinite(values) & (values >= 0))][:1]:
        raise _error(
            _core.CalibrationError,
            f"the range of {name!r} is {value}",
            expected="a finite range, 0 or more",
            got=str(value),
        )
    if values.size == 0:
        raise _error(_core.ParseError, f"{name!r} has no numbers")
    scale = np.where(values > 0, np.maximum(values / 127.0, 2.0**-126), 1.0)
    threshold = float(values.max())
    points = np.zeros(values.size, np.int32)
    note = "" if threshold > 0 else "dead"
    return TensorScale(name, scale.astype(np.float32), points, "s8", axis, threshold, note)


def _arrays(data: bytes) -> Iterable[tuple[str, Array]]:
    import zipfile  # here, since `import planck` is quick
    import zlib

    damaged = (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = archive.infolist()
            _within(sum(member.file_size for member in members), "the .npz file, unpacked,")
            if len(members) > MOST_ENTRIES:
                raise ValueError(f"it has {len(members)} arrays")
            for member in members:
                with archive.open(member) as stream:
                    content = stream.read(member.file_size)
                yield member.filename.removesuffix(".npy"), _array(content)
    except (*damaged, ValueError) as error:
        if isinstance(error, _core.Error):
            raise
        raise _error(_core.ParseError, f"the .npz file cannot be read: {error}") from error


def _array(content: bytes) -> Array:
    """An .npy file of plain floats; its header is believed only as far as the bytes go."""
    import math

    import numpy as np
    from numpy.lib import format as npy

    stream = io.BytesIO(content)
    version = npy.read_magic(stream)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"format {version} is for arrays of records")
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, _, dtype = read(stream)
    if dtype.kind not in "fiu":
        raise ValueError(f"elements are {dtype}, not numbers")
    left = content[stream.tell() :]
    if min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize != len(left):
        raise ValueError(f"its header promises the shape {shape}, which the bytes are not")
    return np.frombuffer(left, dtype)  # order does not matter: at most one extent is not 1


# --- ONNX Runtime's calibration.flatbuffers: a table with a vector of (key, value) tables of text


class _Flat:
    """Numbers and texts at offsets; what reaches past the end is an IndexError."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def number(self, at: int, size: int) -> int:
        if at < 0 or at + size > len(self._data):
            raise IndexError(at)
        return int.from_bytes(self._data[at : at + size], "little")

    def follow(self, at: int) -> int:
        return at + self.number(at, 4)

    def field(self, table: int, index: int) -> int:
        """Where the content of a table's field lies. Errors: IndexError, also if it is absent."""
        offset = self.number(table, 4)
        vtable = table - (offset - (1 << 32) if offset >> 31 else offset)
        if 4 + 2 * index >= self.number(vtable, 2):
            raise IndexError(index)
        place = self.number(vtable + 4 + 2 * index, 2)
        if place == 0:
            raise IndexError(index)
        return self.follow(table + place)

    def text(self, at: int) -> str:
        size = self.number(at, 4)
        if at + 4 + size > len(self._data):
            raise IndexError(at)
        return self._data[at + 4 : at + 4 + size].decode("utf-8")


def _from_binary(data: bytes) -> Scales:
    """A binary file of the one kind that is none of text, .npz and ours."""
    try:
        return _from_flatbuffers(data, "auto")
    except _core.ParseError as error:
        raise _error(
            _core.ParseError,
            f"this is no scale file that Planck knows: {len(data)} bytes of binary data, and no "
            "calibration table of ONNX Runtime either",
            expected=", ".join(scale_kinds()),
            hint="a model is no scale file: planck.calibrate(model, data).solve() gives its scales",
        ) from error


def _from_flatbuffers(data: bytes, kind: str) -> Scales:
    flat = _Flat(data)
    ranges: dict[str, float] = {}
    try:
        entries = flat.field(flat.follow(0), 0)
        count = flat.number(entries, 4)
        if count > len(data) // 8:
            raise IndexError(count)
        for index in range(count):
            table = flat.follow(entries + 4 + 4 * index)
            name = flat.text(flat.field(table, 0))
            if name in ranges:
                raise ValueError(f"{name!r} comes twice")
            ranges[name] = abs(float(flat.text(flat.field(table, 1))))
    except (IndexError, ValueError) as error:
        raise _error(
            _core.ParseError,
            f"this is no calibration table of ONNX Runtime as flatbuffers: {error!r}",
            hint="its text twin calibration.cache has the same numbers",
        ) from error
    if not ranges:
        raise _error(_core.ParseError, "the calibration table has no entries")
    scales = Scales.from_ranges(ranges, kind=FLATBUFFERS)
    scales.notes.append(_assumed(kind, FLATBUFFERS))
    scales.notes.append(
        "its writer keeps the larger of highest and lowest value without their signs, so that "
        "[-5, 1] is written as 1: calibration.json has both ends"
    )
    return scales

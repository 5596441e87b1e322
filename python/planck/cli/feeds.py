"""Feeds for a plan: arrays from files, or seeded random data of a given shape."""

from __future__ import annotations

import argparse
import math
import os
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import IO, TYPE_CHECKING, Any

import planck
from planck.cli.errors import usage
from planck.cli.show import clean, note, shape_text, size_text

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

MOST_BYTES = 4 << 30  # of all feeds together
MOST_ARRAYS = 1024
KINDS = "biufc"  # NumPy's letters for plain numbers
# Integer inputs whose usual meaning is known by name: random numbers would be senseless in them.
MEANINGS = (("mask", (1, 1)), ("token_type", (0, 0)), ("segment", (0, 0)))
INTEGERS = (0, 9)
# What zipfile raises for files that it cannot read.
DAMAGED = (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, zlib.error)

FEEDS_HELP = """\
Arrays from files, or random data: normal floats, integers from 0 to 9, ones for a name with "mask",
zeros for "token_type" and "segment". An input without --shape takes the sizes that its symbols have
in the others."""

Range = tuple[float, float]


def add_feed_options(parser: argparse.ArgumentParser) -> None:
    """--feeds, --input, --shape, --range and --seed."""
    group = parser.add_argument_group("feeds", FEEDS_HELP)
    group.add_argument("--feeds", metavar="FILE.npz", help="an array for each input, by name")
    several: dict[str, Any] = {"nargs": "+", "action": "extend", "default": []}
    group.add_argument("--input", metavar="NAME=FILE.npy", help="one array a file", **several)
    group.add_argument("--shape", metavar="NAME=1x32", help="of random data", **several)
    group.add_argument(
        "--range",
        metavar="[NAME=]LOW:HIGH",
        help="of random data, both ends included; without a name: of all integer inputs",
        **several,
    )
    group.add_argument("--seed", type=int, default=0, help="of random data (default 0)")


def make_feeds(plan: planck.Plan, options: argparse.Namespace) -> dict[str, Array]:
    """Feeds as the options say. Errors: UsageError, FileError, LimitError."""
    feeds = read_npz(options.feeds) if options.feeds else {}
    names = [port.name for port in plan.inputs]
    for text in options.input:
        name, path = split_name(text, names, "--input")
        feeds[name] = read_npy(path)
    wanted = dict(parse_shapes(options.shape, names))
    missing = [port for port in plan.inputs if port.name not in feeds]
    if unused := [name for name in wanted if name in feeds]:
        raise usage(f"input '{unused[0]}' has both an array and a --shape")
    if missing and (wanted or not feeds):
        feeds |= _random(plan.inputs, feeds, wanted, options)
    return feeds


def split_name(text: str, names: Sequence[str], option: str) -> tuple[str, str]:
    """The two sides of NAME=VALUE; a name of the model may hold '=' itself."""
    for name in sorted(names, key=len, reverse=True):
        if text.startswith(name + "="):
            return name, text[len(name) + 1 :]
    name, sign, value = text.partition("=")
    if not sign:
        raise usage(f"{option} {text!r} has no '='", expected="NAME=VALUE")
    return name, value


def parse_shapes(
    texts: Sequence[str], names: Sequence[str], option: str = "--shape"
) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Name and shape of each NAME=1x32. Errors: UsageError."""
    for text in texts:
        name, value = split_name(text, names, option)
        parts = value.replace(",", "x").split("x") if value else []
        if not all(part.isascii() and part.isdigit() and len(part) < 13 for part in parts):
            raise usage(f"{option} {text!r} is no shape", expected="NAME=1x32")
        if name not in names:
            raise usage(f"the model has no input {name!r}", expected="one of " + ", ".join(names))
        yield name, tuple(int(part) for part in parts)


def _random(
    ports: Sequence[planck.Port],
    given: Mapping[str, Array],
    wanted: Mapping[str, tuple[int, ...]],
    options: argparse.Namespace,
) -> dict[str, Array]:
    import numpy as np

    shapes = {name: array.shape for name, array in given.items()} | dict(wanted)
    sizes = symbol_sizes(ports, shapes)
    ranges = dict(_ranges(options.range, [port.name for port in ports]))
    generator = np.random.default_rng(options.seed)
    made: dict[str, Array] = {}
    for port in ports:
        if port.name in given:
            continue
        shape = wanted[port.name] if port.name in wanted else _filled(port, sizes)
        made[port.name] = _random_array(port, shape, ranges, generator)
    parts = (f"{clean(n)} {a.dtype}{shape_text(a.shape)}" for n, a in made.items())
    note(f"random feeds, seed {options.seed}: " + ", ".join(parts))
    return made


def symbol_sizes(
    ports: Sequence[planck.Port], shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, int]:
    """Sizes that symbols have in the shapes given. Errors: UsageError for a wrong rank."""
    sizes: dict[str, int] = {}
    for port in ports:
        shape = shapes.get(port.name)
        if shape is None:
            continue
        if len(shape) != len(port.shape):
            raise usage(
                f"input '{port.name}' has rank {len(port.shape)}",
                expected=f"{port.dtype}{shape_text(port.shape)}",
                got=shape_text(shape),
            )
        for extent, size in zip(port.shape, shape, strict=True):
            if isinstance(extent, str):
                sizes.setdefault(extent, size)
    return sizes


def _filled(port: planck.Port, sizes: Mapping[str, int]) -> tuple[int, ...]:
    unknown = [e for e in port.shape if isinstance(e, str) and e not in sizes]
    if unknown:
        example = [e if isinstance(e, int) else 32 if i else 1 for i, e in enumerate(port.shape)]
        raise usage(
            f"input '{port.name}' needs feeds or a shape: the size of '{unknown[0]}' is not known",
            expected=f"{port.dtype}{shape_text(port.shape)}",
            hint=f"such as --shape {port.name}={'x'.join(map(str, example))}, --input or --feeds",
        )
    return tuple(e if isinstance(e, int) else sizes[e] for e in port.shape)


def _ranges(texts: Sequence[str], names: Sequence[str]) -> Iterator[tuple[str, Range]]:
    """Ranges by name; "" is that of all integer inputs."""
    for text in texts:
        name, value = split_name(text, names, "--range") if "=" in text else ("", text)
        low, _, high = value.partition(":")
        try:
            ends = float(low), float(high)
        except ValueError:
            ends = math.nan, math.nan
        if not (math.isfinite(ends[0]) and ends[0] <= ends[1] < math.inf):
            raise usage(f"--range {text!r} is no range", expected="[NAME=]LOW:HIGH")
        if name and name not in names:
            raise usage(f"the model has no input {name!r}", expected="one of " + ", ".join(names))
        yield name, ends


def _random_array(
    port: planck.Port, shape: tuple[int, ...], ranges: Mapping[str, Range], generator: Any
) -> Array:
    dtype = _dtype(port)
    _within_limit(math.prod(shape) * max(8, dtype.itemsize), f"--shape of '{port.name}'")
    low, high = ranges.get(port.name, (0.0, 0.0))
    if dtype.kind == "b":
        return _array(generator.integers(0, 2, shape), dtype)
    if dtype.kind in "iu":
        low, high = ranges.get(port.name) or _usual(port.name) or ranges.get("", INTEGERS)
        return _array(_integers(port, (low, high), shape, generator), dtype)
    if port.name in ranges:
        return _array(generator.uniform(low, high, shape), dtype)
    return _array(generator.standard_normal(shape), dtype)


def _integers(port: planck.Port, ends: Range, shape: tuple[int, ...], generator: Any) -> Any:
    import numpy as np

    limits = np.iinfo(port.dtype)
    low, high = int(ends[0]), int(ends[1])
    if low < limits.min or high > min(limits.max, np.iinfo(np.int64).max):
        raise usage(f"--range {low}:{high} is outside {port.dtype} of input '{port.name}'")
    return generator.integers(low, high, shape, endpoint=True)


def _array(values: Any, dtype: Any) -> Array:
    import numpy as np

    return np.asarray(values).astype(dtype)


def _usual(name: str) -> Range | None:
    return next((ends for part, ends in MEANINGS if part in name.lower()), None)


def _dtype(port: planck.Port) -> Any:
    import ml_dtypes  # noqa: F401 - NumPy learns the names of short floats
    import numpy as np

    dtype = np.dtype(port.dtype)
    if dtype.kind not in KINDS + "V":
        raise usage(f"input '{port.name}' is {port.dtype}: random data cannot be made for it")
    return dtype


def _within_limit(need: int, what: str) -> None:
    if need > MOST_BYTES:
        raise usage(
            f"{what} needs {size_text(need)}; the limit is {size_text(MOST_BYTES)}",
            kind=planck.LimitError,
        )


def read_npz(path: str) -> dict[str, Array]:
    """Arrays of an .npz file by name, never pickled ones.

    Errors: FileError (missing), UsageError (no .npz, or damaged), LimitError (size or count).
    """
    with _opened(path) as file:
        try:
            return _read_archive(path, file)
        except DAMAGED as error:
            raise usage(
                f"'{path}' is no .npz file: {error}",
                hint="numpy.savez(path, NAME=array) writes one",
                kind=planck.FeedError,
            ) from error


def _read_archive(path: str, file: IO[bytes]) -> dict[str, Array]:
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        if len(members) > MOST_ARRAYS:
            raise usage(
                f"'{path}' has {len(members)} arrays; the limit is {MOST_ARRAYS}",
                kind=planck.LimitError,
            )
        _within_limit(sum(member.file_size for member in members), f"'{path}'")
        arrays: dict[str, Array] = {}
        for member in members:
            with archive.open(member) as stream:
                name = member.filename.removesuffix(".npy")
                arrays[name] = _read_array(stream, member.file_size, f"{path}: {name}")
        return arrays


def read_npy(path: str) -> Array:
    """The array of an .npy file. Errors: as for read_npz."""
    with _opened(path) as file:
        return _read_array(file, os.fstat(file.fileno()).st_size, path)


def _opened(path: str) -> IO[bytes]:
    try:
        if os.path.exists(path) and not os.path.isfile(path):  # a pipe would block
            raise planck.FileError(f"'{path}' is not a regular file")
        return open(path, "rb")
    except OSError as error:
        if isinstance(error, planck.Error):
            raise
        raise planck.FileError(f"cannot open '{path}': {error.strerror}") from error


def _read_array(stream: IO[bytes], size: int, what: str) -> Array:
    """One array of at most `size` bytes; its header is believed only as far as the bytes go."""
    import numpy as np
    from numpy.lib import format as npy

    try:
        version = npy.read_magic(stream)
        if version not in ((1, 0), (2, 0)):
            raise ValueError(f"format {version[0]}.{version[1]} is for arrays of records")
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, fortran, dtype = read(stream)
        if dtype.kind not in KINDS:
            raise ValueError(f"elements are {dtype}, not plain numbers")
        if min(shape, default=0) < 0:
            raise ValueError(f"its header gives the shape {shape}")
        need = math.prod(shape) * dtype.itemsize
        _within_limit(need, f"'{what}'")
        data = stream.read(need) if need <= size else b""
        if len(data) != need:
            raise ValueError(f"its header promises {need} bytes of data, which are not there")
    except (ValueError, *DAMAGED) as error:
        if isinstance(error, planck.Error):
            raise
        raise usage(f"'{what}' is no usable .npy file: {error}", kind=planck.FeedError) from error
    array = np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")
    return array.astype(dtype.newbyteorder("="), order="C")

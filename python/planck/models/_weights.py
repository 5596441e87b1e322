"""Where the numbers of a model come from: a seed, or a file of trained tensors."""

from __future__ import annotations

import math
import zlib
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from planck.models._optional import require

Array = NDArray[Any]
Kind = Literal[
    "weight",
    "bias",
    "he",
    "lecun",
    "sharp",
    "unit",
    "scale",
    "residual_scale",
    "variance",
    "slope",
    "rare",
]

# Normal distributions by their deviation; biases are not zero, since that would hide a lost Add.
_DEVIATIONS = {"weight": 0.02, "bias": 0.02, "unit": 1.0}
# Normal distributions by their variance times fan-in.
_GAINS = {"he": 2.0, "lecun": 1.0, "sharp": 4.0}
# Uniform distributions. A residual branch that is scaled down keeps a deep sum in bounds.
_RANGES = {
    "scale": (0.9, 1.1),
    "residual_scale": (0.2, 0.4),
    "variance": (0.8, 1.25),
    "slope": (0.15, 0.35),
}
# The logit of a class that one query in a hundred shows, with which training begins.
_RARE = -math.log((1 - 0.01) / 0.01)


class WeightSource(Protocol):
    """Gives a parameter by the name it has in the original module tree."""

    def tensor(self, name: str, shape: tuple[int, ...], kind: Kind) -> Array:
        """Return f32 [shape], in the layout of the training framework (Linear: [out, in])."""
        ...


class Generated:
    """Seeded weights: normal with deviation 0.02, LayerNorm scales within 1 +/- 0.1.

    "lecun" has the variance 1 / fan-in, which keeps a signal's strength, "he" 2 / fan-in, which
    keeps it through a ReLU, and "sharp" 4 / fan-in, with which attention prefers some keys.
    "rare" is the constant -log(0.99 / 0.01): the bias of a class that 1 % of the queries show.
    Every tensor has a stream of its own, keyed by its name. So a tensor keeps its values when
    other tensors come, go or are written in another order, and all variants of a model agree.
    """

    def __init__(self, seed: int) -> None:
        if seed < 0:
            raise ValueError(f"seed is {seed}, but must not be negative")
        self._seed = seed

    def tensor(self, name: str, shape: tuple[int, ...], kind: Kind) -> Array:
        """Return f32 [shape]; the same bits for the same seed, name and shape."""
        if kind == "rare":
            return np.full(shape, _RARE, dtype=np.float32)
        key = np.random.SeedSequence(self._seed, spawn_key=(zlib.crc32(name.encode()),))
        stream = np.random.Generator(np.random.PCG64(key))
        values: Array
        if kind in _RANGES:
            low, high = _RANGES[kind]
            values = stream.random(shape, dtype=np.float32)
            values *= np.float32(high - low)
            values += np.float32(low)
        else:
            values = stream.standard_normal(shape, dtype=np.float32)
            values *= np.float32(_deviation(shape, kind))
            if kind == "he":
                # What all inputs have in common, and after a ReLU that is much, must not add up.
                values -= values.mean(axis=tuple(range(1, len(shape))), keepdims=True)
        return values


def _deviation(shape: tuple[int, ...], kind: Kind) -> float:
    if kind in _GAINS:
        return math.sqrt(_GAINS[kind] / math.prod(shape[1:]))
    return _DEVIATIONS[kind]


class Trained:
    """Tensors of a safetensors file, mapped into memory and read one at a time.

    Errors: MissingPackageError without the package safetensors; OSError for a missing file.
    """

    def __init__(self, path: Path) -> None:
        safetensors = require("safetensors", "safetensors", "reading trained weights")
        self._path = path
        self._file = safetensors.safe_open(path, framework="numpy")
        self._names = frozenset(self._file.keys())

    def tensor(self, name: str, shape: tuple[int, ...], kind: Kind) -> Array:
        """Return f32 [shape]. Errors: ValueError when the file lacks it or has another shape."""
        if name not in self._names:
            raise ValueError(f"{self._path} has no tensor {name}")
        values: Array = self._file.get_tensor(name)
        if values.shape != shape:
            raise ValueError(f"{name} in {self._path} is {values.shape}, but must be {shape}")
        return values.astype(np.float32, copy=False)


class Archive:
    """Tensors of an .npz file, in half precision there, under the names of the module tree.

    Errors: OSError for a missing file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with np.load(path) as file:
            self._tensors = {name: file[name] for name in file.files}

    def tensor(self, name: str, shape: tuple[int, ...], kind: Kind) -> Array:
        """Return f32 [shape]. Errors: ValueError when the file lacks it or has another shape."""
        if name not in self._tensors:
            raise ValueError(f"{self._path.name} has no tensor {name}")
        values: Array = self._tensors[name]
        if values.shape != shape:
            raise ValueError(
                f"{name} was trained as {list(values.shape)}, but this graph wants {list(shape)}"
            )
        return values.astype(np.float32)

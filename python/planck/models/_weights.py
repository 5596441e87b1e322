"""Where the numbers of a model come from: a seed, or a file of trained tensors."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from planck.models._optional import require

Array = NDArray[Any]
Kind = Literal["weight", "scale", "bias"]


class WeightSource(Protocol):
    """Gives a parameter by the name it has in the original module tree."""

    def tensor(self, name: str, shape: tuple[int, ...], kind: Kind) -> Array:
        """Return f32 [shape], in the layout of the training framework (Linear: [out, in])."""
        ...


class Generated:
    """Seeded weights: normal with deviation 0.02, LayerNorm scales within 1 +/- 0.1.

    Every tensor has a stream of its own, keyed by its name. So a tensor keeps its values when
    other tensors come, go or are written in another order, and all variants of a model agree.
    """

    def __init__(self, seed: int) -> None:
        if seed < 0:
            raise ValueError(f"seed is {seed}, but must not be negative")
        self._seed = seed

    def tensor(self, name: str, shape: tuple[int, ...], kind: Kind) -> Array:
        """Return f32 [shape]; the same bits for the same seed, name and shape."""
        key = np.random.SeedSequence(self._seed, spawn_key=(zlib.crc32(name.encode()),))
        stream = np.random.Generator(np.random.PCG64(key))
        values: Array
        if kind == "scale":
            values = stream.random(shape, dtype=np.float32)
            values *= np.float32(0.2)
            values += np.float32(0.9)
        else:
            # Biases get the same deviation: zeros would hide an Add that was lost.
            values = stream.standard_normal(shape, dtype=np.float32)
            values *= np.float32(0.02)
        return values


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

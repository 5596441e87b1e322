"""Handwritten digits of 8 x 8 pixels, as scikit-learn has them (1797 pictures, 10 classes).

Source: E. Alpaydin, C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning
Repository, 1998. The file is read from the installed package; none of its code runs.
"""

from __future__ import annotations

import gzip
from functools import lru_cache

import numpy as np

from bench.train.task import (
    CALIBRATION,
    HELD_OUT,
    Array,
    Batch,
    Task,
    class_decisions,
    class_score,
    stream,
)
from planck.models._optional import folder
from planck.models.digits import LEVELS, SIDE

_HELD_OUT = 500


@lru_cache
def pictures(held_out: bool) -> tuple[Array, Array]:
    """Pictures f32 [N, 1, 8, 8] in 0..1 and their labels i64 [N], in a fixed random order.

    500 are held out, 1297 are for training. Errors: ImportError without scikit-learn.
    """
    path = folder("sklearn", "scikit-learn", "the digits data set")
    with gzip.open(path / "datasets" / "data" / "digits.csv.gz", "rt") as file:
        rows = np.loadtxt(file, delimiter=",", dtype=np.float32)
    rows = rows[stream(0).permutation(len(rows))]
    rows = rows[:_HELD_OUT] if held_out else rows[_HELD_OUT:]
    return rows[:, :-1].reshape(-1, 1, SIDE, SIDE) / LEVELS, rows[:, -1].astype(np.int64)


def make(split: int, number: int, samples: int) -> Batch:
    """Held-out pictures in their order; for calibration the first of those for training."""
    images, labels = pictures(held_out=split == HELD_OUT)
    if split in (HELD_OUT, CALIBRATION):
        first = number * TASK.batch
        chosen = np.arange(first, min(first + samples, len(images)))
    else:
        chosen = stream(split, number).integers(0, len(images), size=samples)
    return Batch({"image": images[chosen]}, {"label": labels[chosen]})


TASK = Task(
    model="digits",
    samples=_HELD_OUT,
    batch=100,
    make=make,
    decide=class_decisions,
    score=class_score,
)

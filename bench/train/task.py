"""What a task is: samples from fixed seeds, and what the outputs of a model are worth on them."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Arrays = Mapping[str, Array]
Totals = dict[str, tuple[float, float]]

# Streams of samples that never meet: the tuple of a split and a batch number is a seed.
TRAINING, HELD_OUT, CALIBRATION = 1, 2, 3


@dataclass(frozen=True, slots=True)
class Batch:
    """Feeds of the model by input name, and the answers by name, sample by sample."""

    feeds: dict[str, Array]
    answers: dict[str, Any]

    @property
    def samples(self) -> int:
        """How many samples there are."""
        return len(next(iter(self.feeds.values())))


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A task for the mini of a model in planck.models.

    samples: of the whole held-out set; batch: of one run. make(split, number, samples) gives a
    batch of samples of a split. decide(outputs, feeds) gives what the model says of each sample.
    score(outputs, batch) gives by measure a sum and what to divide it by; the first is the metric.
    """

    model: str
    samples: int
    batch: int
    make: Callable[[int, int, int], Batch]
    decide: Callable[[Arrays, Arrays], list[Hashable]]
    score: Callable[[Arrays, Batch], Totals]

    def batches(self, split: int, samples: int | None = None) -> Iterator[Batch]:
        """The first samples of a split, batch by batch; None: as many as are held out."""
        left = self.samples if samples is None else samples
        for number in range(-(-left // self.batch)):
            yield self.make(split, number, min(self.batch, left - number * self.batch))


def stream(*seed: int) -> np.random.Generator:
    """Random numbers that depend on the seed alone."""
    return np.random.Generator(np.random.PCG64(list(seed)))


def cross_entropy(logits: Array, labels: Array) -> float:
    """Sum over samples of -log softmax(logits)[label], for logits [B, C] and labels [B]."""
    wide = logits.astype(np.float64)
    wide -= wide.max(axis=1, keepdims=True)
    normal = np.log(np.exp(wide).sum(axis=1))
    return float((normal - wide[np.arange(len(labels)), labels]).sum())


def class_decisions(outputs: Arrays, feeds: Arrays) -> list[Hashable]:
    """The class of every sample out of logits [B, C]."""
    return list(map(int, outputs["logits"].argmax(axis=1)))


def class_score(outputs: Arrays, batch: Batch) -> Totals:
    """Accuracy and mean cross entropy of logits [B, C]."""
    logits, labels = outputs["logits"], batch.answers["label"]
    count = len(labels)
    return {
        "accuracy": (float((logits.argmax(axis=1) == labels).sum()), count),
        "loss": (cross_entropy(logits, labels), count),
    }

"""Which of two patterns occurs more often in a row of tokens: the first, the second, neither.

Tokens belong to groups A, B, C or to none. The first pattern is a token of A directly before one
of B, the second a token of B directly before one of C. Single tokens of all groups stand between.
"""

from __future__ import annotations

import numpy as np

from bench.train.task import Array, Batch, Task, class_decisions, class_score, stream
from planck.models.bert import CLS, SEP

LENGTH = 64
_SHORTEST = 24
_GROUPS = ((448, 512), (200, 264), (264, 328), (328, 392))  # tokens of none, A, B, C
_MOST = 10  # patterns of a kind that are put in


def make(split: int, number: int, samples: int) -> Batch:
    """Rows of 24 to 64 tokens, [CLS] ... [SEP], padded by 0; about a third of each label."""
    random = stream(split, number, 7)
    groups = np.zeros((samples, LENGTH), dtype=np.int64)
    lengths = random.integers(_SHORTEST, LENGTH, size=samples, endpoint=True)
    for row, length in zip(groups, lengths, strict=True):
        row[1 : length - 1] = _row(random, length - 2)
    low, high = np.array(_GROUPS).T
    ids = random.integers(low[groups], high[groups])
    place = np.arange(LENGTH)
    mask = place < lengths[:, None]
    ids = np.where(mask, ids, 0)
    ids[:, 0] = CLS
    ids[np.arange(samples), lengths - 1] = SEP
    feeds = {
        "input_ids": ids,
        "attention_mask": mask.astype(np.int64),
        "token_type_ids": np.zeros_like(ids),
    }
    return Batch(feeds, {"label": labels(ids)})


def _row(random: np.random.Generator, length: int) -> Array:
    """Groups of `length` tokens: some of both patterns between single tokens, in any order."""
    counts = random.integers(0, _MOST, size=2, endpoint=True)
    if random.random() < 0.3:
        counts[1] = counts[0]
    units: list[tuple[int, ...]] = [*[(1, 2)] * counts[0], *[(2, 3)] * counts[1]]
    units = [units[i] for i in random.permutation(len(units))[: length // 2]]
    single = random.integers(0, 4, size=length - 2 * len(units))
    units += [(int(group),) for group in single]
    order = random.permutation(len(units))
    return np.array([group for place in order for group in units[place]])


def labels(ids: Array) -> Array:
    """0, 1, 2 for more of the first, more of the second, as many of both; ids i64 [B, L]."""
    group = np.zeros_like(ids)
    for number, (low, high) in enumerate(_GROUPS[1:], start=1):
        group[(ids >= low) & (ids < high)] = number
    before, after = group[:, :-1], group[:, 1:]
    first = ((before == 1) & (after == 2)).sum(axis=1)
    second = ((before == 2) & (after == 3)).sum(axis=1)
    result: Array = np.where(first > second, 0, np.where(second > first, 1, 2))
    return result


TASK = Task(
    model="bert_classifier",
    samples=2000,
    batch=250,
    make=make,
    decide=class_decisions,
    score=class_score,
)

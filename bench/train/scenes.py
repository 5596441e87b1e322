"""Pictures as lists of coloured shapes, and a phrase that names one: "the red square, left".

A region's features are those of its colour and of its shape with noise, non-negative and
heavy-tailed as those of a detector. Where several regions fit, the phrase also says in which half
of the picture the one meant has its centre.
"""

from __future__ import annotations

from collections.abc import Hashable
from functools import lru_cache

import numpy as np

from bench.train.task import Array, Arrays, Batch, Task, Totals, stream
from planck.models.bert import CLS, POSITIONS, SEP
from planck.models.vilbert import BOX, CONFIGS, FEATURES, REGIONS, TOKENS, overlaps

COLOURS, SHAPES = 8, 8
_SYNONYMS = 3
_COLOUR_WORDS, _SHAPE_WORDS, _SIDE_WORDS, _FILLERS = 110, 140, 170, 190
_FILLER_WORDS = 16
_SIDES = ((0, -1), (0, 1), (1, -1), (1, 1))  # left, right, above, below: axis, sign
_FEWEST = 10
_TOGETHER = 0.5  # IoU above which a region is the right one


def make(split: int, number: int, samples: int, regions: int = REGIONS) -> Batch:
    """Scenes of 10 to `regions` regions, which is also the width of the arrays.

    The answer is each region's overlap with the one meant, f32 [B, regions, 1].
    """
    random = stream(split, number, 13)
    count = random.integers(_FEWEST, regions, size=samples, endpoint=True)
    valid = np.arange(regions) < count[:, None]
    colours = random.integers(0, COLOURS, size=valid.shape)
    shapes = random.integers(0, SHAPES, size=valid.shape)
    boxes = _boxes(random, valid)
    questions = np.zeros((samples, TOKENS), dtype=np.int64)
    meant = np.zeros(samples, dtype=np.int64)
    for i in range(samples):
        things = colours[i] * SHAPES + shapes[i]
        questions[i], meant[i] = _phrase(random, things, boxes[i], int(count[i]))
    feeds = {
        "question": questions,
        "features": _features(random, colours, shapes, valid),
        "spatials": boxes,
        "segment_ids": np.zeros_like(questions),
        "input_mask": (questions > 0).astype(np.int64),
        "image_mask": valid.astype(np.int64),
    }
    overlap = overlaps(boxes, boxes[np.arange(samples), meant])
    return Batch(feeds, {"overlap": overlap})


def _phrase(
    random: np.random.Generator, things: Array, boxes: Array, count: int
) -> tuple[Array, int]:
    """Tokens i64 [20] that name one region of a scene, and which one; region 0 is the picture."""
    choices: list[tuple[int, int]] = []
    while not choices:  # rarely three of a kind are such that no half has only one of them
        thing = things[random.integers(1, count)]
        fitting = 1 + np.flatnonzero(things[1:count] == thing)
        choices = _choices(boxes, fitting)
    meant, side = choices[random.integers(len(choices))]
    words = [
        _COLOUR_WORDS + _SYNONYMS * (thing // SHAPES) + random.integers(_SYNONYMS),
        _SHAPE_WORDS + _SYNONYMS * (thing % SHAPES) + random.integers(_SYNONYMS),
    ]
    if len(fitting) > 1 or random.random() < 0.3:
        words.append(_SIDE_WORDS + _SYNONYMS * side + random.integers(_SYNONYMS))
    for _ in range(random.integers(0, 5)):
        filler = _FILLERS + random.integers(_FILLER_WORDS)
        words.insert(int(random.integers(len(words) + 1)), filler)
    tokens = np.zeros(TOKENS, dtype=np.int64)
    tokens[: len(words) + 2] = [CLS, *words, SEP]
    return tokens, meant


def _choices(boxes: Array, fitting: Array) -> list[tuple[int, int]]:
    """The (region, side) for which the region is the only fitting one in that half."""
    choices = []
    for side, (axis, sign) in enumerate(_SIDES):
        centres = (boxes[fitting, axis] + boxes[fitting, axis + 2]) / 2
        inside = fitting[sign * (centres - 0.5) > 0]
        if len(inside) == 1:
            choices.append((int(inside[0]), side))
    return choices


def _boxes(random: np.random.Generator, valid: Array) -> Array:
    """f32 [B, 100, 5]: x1, y1, x2, y2 in 0..1 and the area; region 0 is the whole picture."""
    size = random.uniform(0.05, 0.3, size=(*valid.shape, 2))
    low = random.random((*valid.shape, 2)) * (1 - size)
    boxes = np.concatenate([low, low + size, size.prod(axis=-1, keepdims=True)], axis=-1)
    boxes[:, 0] = (0, 0, 1, 1, 1)
    boxes *= valid[..., None]
    assert boxes.shape[-1] == BOX
    return boxes.astype(np.float32)


@lru_cache
def _codes() -> tuple[Array, Array]:
    """What a colour and a shape look like: f32 [8, 2048] each."""
    random = stream(17)
    colour = random.standard_normal((COLOURS, FEATURES), dtype=np.float32)
    return colour, random.standard_normal((SHAPES, FEATURES), dtype=np.float32)


def _features(random: np.random.Generator, colours: Array, shapes: Array, valid: Array) -> Array:
    """f32 [B, 100, 2048]: log-normal, a third of it zero; region 0 is the mean of the others."""
    colour, shape = _codes()
    values = random.standard_normal((*valid.shape, FEATURES), dtype=np.float32)
    values += np.float32(0.35) * (colour[colours] + shape[shapes]) - np.float32(1.0)
    np.exp(values, out=values)
    values *= random.random(values.shape, dtype=np.float32) > np.float32(1 / 3)
    values *= valid[..., None]
    values[:, 0] = values[:, 1:].sum(axis=1) / (valid.sum(axis=1) - 1)[:, None]
    return values


def unused(table: str) -> Array:
    """Rows of an embedding table of the mini that no phrase reads: i64 [N].

    table: word_embeddings or position_embeddings.
    """
    if table == "position_embeddings":
        return np.arange(TOKENS, POSITIONS)
    words = {0, CLS, SEP}
    for first, count in (
        (_COLOUR_WORDS, _SYNONYMS * COLOURS),
        (_SHAPE_WORDS, _SYNONYMS * SHAPES),
        (_SIDE_WORDS, _SYNONYMS * len(_SIDES)),
        (_FILLERS, _FILLER_WORDS),
    ):
        words |= set(range(first, first + count))
    return np.array([i for i in range(CONFIGS["mini"].vocabulary) if i not in words])


def decide(outputs: Arrays, feeds: Arrays) -> list[Hashable]:
    """The region with the highest logit."""
    return list(map(int, outputs["vision_logit"][:, :, 0].argmax(axis=1)))


def score(outputs: Arrays, batch: Batch) -> Totals:
    """Share of right regions, and binary cross-entropy with logits, mean x 100 regions."""
    logits = outputs["vision_logit"].astype(np.float64)
    overlap = batch.answers["overlap"].astype(np.float64)
    loss = np.maximum(logits, 0) - logits * overlap + np.log1p(np.exp(-np.abs(logits)))
    chosen = logits[:, :, 0].argmax(axis=1)
    right = overlap[np.arange(len(chosen)), chosen, 0] > _TOGETHER
    return {
        "share of right regions": (float(right.sum()), len(right)),
        "loss": (float(loss.mean(axis=(1, 2)).sum() * REGIONS), len(right)),
    }


TASK = Task(model="vilbert", samples=256, batch=32, make=make, decide=decide, score=score)

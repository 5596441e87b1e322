"""Pictures of known text for the models that read; Pillow is imported at the first call.

Shapes in the docstrings: B batch, H height, W width.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from planck.models._optional import require
from planck.models._weights import Array

_PURPOSE = "drawing text"


def sentences(count: int, seed: int, words: int = 5) -> list[str]:
    """Lines of `words` words each, out of Python's own language reference; the same for a seed."""
    vocabulary = _vocabulary()
    stream = np.random.Generator(np.random.PCG64(seed))
    chosen = stream.integers(len(vocabulary), size=(count, words))
    return [" ".join(vocabulary[index] for index in row) for row in chosen]


@lru_cache(maxsize=1)
def _vocabulary() -> tuple[str, ...]:
    from pydoc_data.topics import topics

    text = " ".join(topics[key] for key in sorted(topics))
    return tuple(sorted(set(re.findall(r"(?<![\w.])[A-Za-z][a-z]{2,9}(?![\w.])", text))))


def line(text: str, size: int, margin: int = 8) -> Array:
    """Black text in Pillow's own font on white, u8 [H, W, 3]; `size` is the font's in pixels."""
    width, height = _extent(text, size)
    page = _Page.blank(height + 2 * margin, width + 2 * margin)
    page.write(text, margin, margin, size)
    return page.pixels()


def page(lines: Sequence[str], height: int, width: int, size: int) -> Array:
    """The lines one below the other, u8 [height, width, 3]; what does not fit is left out."""
    sheet = _Page.blank(height, width)
    step = 2 * size
    for index, text in enumerate(lines):
        if (index + 1) * step > height:
            break
        sheet.write(text, size, index * step + size // 2, size)
    return sheet.pixels()


def resized(pixels: Array, height: int, width: int) -> Array:
    """u8 [H, W, 3] -> u8 [height, width, 3] by linear interpolation."""
    image = require("PIL.Image", "pillow", _PURPOSE)
    picture = image.fromarray(pixels).resize((width, height), image.Resampling.BILINEAR)
    return np.asarray(picture)


def normalised(pixels: Array) -> Array:
    """u8 [H, W, 3] -> f32 [3, H, W] in -1..1, as the PP-OCR models are fed."""
    return (pixels.astype(np.float32) / np.float32(127.5) - np.float32(1)).transpose(2, 0, 1)


def fitted(pixels: Array, height: int, width: int) -> Array:
    """u8 [H, W, 3] -> f32 [3, height, width]: scaled to the height, cut or filled up with zeros."""
    wide = max(1, min(width, round(pixels.shape[1] * height / pixels.shape[0])))
    values = np.zeros((3, height, width), dtype=np.float32)
    values[:, :, :wide] = normalised(resized(pixels, height, wide))
    return values


@dataclass(frozen=True, slots=True)
class _Page:
    image: Any
    draw: Any

    @classmethod
    def blank(cls, height: int, width: int) -> _Page:
        image = require("PIL.Image", "pillow", _PURPOSE).new("RGB", (width, height), "white")
        return cls(image, require("PIL.ImageDraw", "pillow", _PURPOSE).Draw(image))

    def write(self, text: str, left: int, top: int, size: int) -> None:
        self.draw.text((left, top), text, fill="black", font=_font(size))

    def pixels(self) -> Array:
        return np.asarray(self.image)


@lru_cache(maxsize=8)
def _font(size: int) -> Any:
    return require("PIL.ImageFont", "pillow", _PURPOSE).load_default(size=size)


def _extent(text: str, size: int) -> tuple[int, int]:
    _, _, right, bottom = _font(size).getbbox(text)
    return int(right), int(bottom)

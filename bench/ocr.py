"""Reads drawn pages of known text: detector, boxes, recogniser, strings; on any engine.

    python bench/ocr.py [--engine planck|onnxruntime] [--lines 50] [--size 32]

Goals: trained models end to end, and one number that a precision has to keep, the share of
characters that are read right. Non-goals: turned text, photographs; boxes have upright sides.
Source of the post-processing: M. Liao et al., "Real-time Scene Text Detection with Differentiable
Binarization", AAAI 2020.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

sys.path.append(str(Path(__file__).resolve().parent.parent))  # a script's path has only bench/

from bench.peers import Array, import_planck

THRESHOLD = 0.3  # of a pixel's probability to belong to text
BOX_THRESHOLD = 0.5  # of its mean over a box
UNCLIP = 1.6  # the detector draws text smaller than it is; area * this / perimeter puts it back
SMALLEST = 3  # pixels, of a box's shorter side
LINES_PER_PAGE = 10
PAGE_WIDTH = 960
BATCH = 10  # lines that the recogniser sees at once
HEIGHT = 48  # of its lines

Model = Callable[[Array], Array]  # from the one input to the one output
ENGINES = ("planck", "onnxruntime")


@dataclass(frozen=True, slots=True, order=True)
class Box:
    """Rows top to bottom and columns left to right, ends excluded."""

    top: int
    left: int
    bottom: int
    right: int

    def joined(self, other: Box) -> Box:
        """The smallest box around both."""
        return Box(
            min(self.top, other.top),
            min(self.left, other.left),
            max(self.bottom, other.bottom),
            max(self.right, other.right),
        )


@dataclass(frozen=True, slots=True)
class Result:
    """What was drawn and what was read, by page; seconds of everything between them."""

    drawn: list[str]
    read: list[str]
    seconds: float

    @property
    def accuracy(self) -> float:
        """One less the share of characters that must be changed to get what was drawn."""
        wrong = sum(edits(a, b) for a, b in zip(self.drawn, self.read, strict=True))
        return 1 - wrong / sum(map(len, self.drawn))


def load(name: str, engine: str, precision: str = "fp32") -> Model:
    """Builds a packaged model: f32 input -> f32 output. Errors: those of the engine."""
    models = import_planck("planck.models")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{name}.onnx"
        models.write(name, path)
        if engine == "onnxruntime":
            return _onnxruntime(path)
        plan = import_planck().build(path.read_bytes(), precision=precision)
    output = plan.outputs[0].name
    return lambda x: np.asarray(plan.run({"x": x})[output])


def _onnxruntime(path: Path) -> Model:
    import onnxruntime as ort

    session = ort.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    return lambda x: np.asarray(session.run(None, {"x": x})[0])


def components(mask: Array) -> list[Box]:
    """Boxes around the connected parts of bool [H, W]; diagonal neighbours are connected."""
    parent: list[int] = []
    boxes: list[Box] = []
    above: list[tuple[int, int, int]] = []
    for row, line in enumerate(mask):
        runs = []
        for left, right in _runs(line):
            label = len(parent)
            parent.append(label)
            boxes.append(Box(row, left, row + 1, right))
            for start, end, other in above:
                if start <= right and left <= end:
                    label = _join(parent, boxes, label, other)
            runs.append((left, right, label))
        above = runs
    return [box for label, box in enumerate(boxes) if parent[label] == label]


def _runs(line: Array) -> list[tuple[int, int]]:
    """[start, end) of every stretch of True in bool [W]."""
    edges = np.flatnonzero(np.diff(np.concatenate(([0], line.astype(np.int8), [0]))))
    return [(int(start), int(end)) for start, end in edges.reshape(-1, 2)]


def _join(parent: list[int], boxes: list[Box], a: int, b: int) -> int:
    """Unites two labels and their boxes; gives the label that stays."""
    a, b = _root(parent, a), _root(parent, b)
    if a == b:
        return a
    keep, drop = min(a, b), max(a, b)
    parent[drop] = keep
    boxes[keep] = boxes[keep].joined(boxes[drop])
    return keep


def _root(parent: list[int], label: int) -> int:
    while parent[label] != label:
        label = parent[label]
    return label


def text_boxes(probability: Array) -> list[Box]:
    """Boxes of text in f32 [H, W], grown to their true size, in reading order."""
    found = []
    for box in components(probability > THRESHOLD):
        inside = probability[box.top : box.bottom, box.left : box.right]
        if min(inside.shape) >= SMALLEST and inside.mean() >= BOX_THRESHOLD:
            found.append(_unclipped(box, probability.shape))
    return sorted(found)


def _unclipped(box: Box, shape: tuple[int, ...]) -> Box:
    height, width = box.bottom - box.top, box.right - box.left
    distance = round(height * width * UNCLIP / (2 * (height + width)))
    return Box(
        max(0, box.top - distance),
        max(0, box.left - distance),
        min(shape[0], box.bottom + distance),
        min(shape[1], box.right + distance),
    )


def rows(boxes: Sequence[Box]) -> list[list[Box]]:
    """Boxes that stand beside each other, from left to right; rows from top to bottom."""
    found: list[list[Box]] = []
    for box in sorted(boxes):
        if found and box.top < (found[-1][0].top + found[-1][0].bottom) / 2:
            found[-1].append(box)
        else:
            found.append([box])
    return [sorted(row, key=lambda box: box.left) for row in found]


def decoded(probabilities: Array, characters: Sequence[str]) -> list[str]:
    """f32 [B, T, characters] -> strings: the likeliest of each step, less repeats and blanks."""
    best = probabilities.argmax(axis=-1)
    changed = np.ones_like(best, dtype=bool)
    changed[:, 1:] = best[:, 1:] != best[:, :-1]
    return [
        "".join(characters[index] for index in row[keep]).strip()
        for row, keep in zip(best, changed & (best != 0), strict=True)
    ]


def recognised(model: Model, pictures: Sequence[Array], characters: Sequence[str]) -> list[str]:
    """Pictures u8 [H, W, 3] of one line each -> strings."""
    lines = import_planck("planck.models.lines")
    texts: list[str] = []
    for start in range(0, len(pictures), BATCH):
        batch = pictures[start : start + BATCH]
        widest = max(HEIGHT * picture.shape[1] / picture.shape[0] for picture in batch)
        width = 8 * int(np.ceil(widest / 8))
        x = np.stack([lines.fitted(picture, HEIGHT, width) for picture in batch])
        texts += decoded(model(x), characters)
    return texts


def read_page(detector: Model, recogniser: Model, pixels: Array, characters: Sequence[str]) -> str:
    """A page u8 [H, W, 3], H and W multiples of 32 -> its lines."""
    lines = import_planck("planck.models.lines")
    probability = detector(lines.normalised(pixels)[None])[0, 0]
    layout = rows(text_boxes(probability))
    crops = [pixels[box.top : box.bottom, box.left : box.right] for row in layout for box in row]
    texts = iter(recognised(recogniser, crops, characters))
    return "\n".join(" ".join(next(texts) for _ in row) for row in layout)


def edits(a: str, b: str) -> int:
    """Characters to insert, drop or replace to make b of a."""
    row = np.arange(len(b) + 1)
    other = np.array([ord(character) for character in b], dtype=np.int64)
    steps = np.arange(len(b) + 1)
    for character in a:
        best = np.minimum(row[1:] + 1, row[:-1] + (other != ord(character)))
        row = np.concatenate(([row[0] + 1], best))
        row = np.minimum.accumulate(row - steps) + steps  # insertions, from left to right
    return int(row[-1])


def measure(engine: str, count: int, size: int, seed: int = 0, precision: str = "fp32") -> Result:
    """Draws `count` lines in a font of `size` pixels and reads them."""
    lines = import_planck("planck.models.lines")
    detector, recogniser = (load(name, engine, precision) for name in ("ocr_det", "ocr_rec"))
    characters = import_planck("planck.models.real").characters()
    texts = lines.sentences(count, seed)
    pages = [texts[start : start + LINES_PER_PAGE] for start in range(0, count, LINES_PER_PAGE)]
    height = -(-LINES_PER_PAGE * 2 * size // 32) * 32
    read, seconds = [], 0.0
    for page in pages:
        pixels = lines.page(page, height, PAGE_WIDTH, size)
        start = time.perf_counter()
        read.append(read_page(detector, recogniser, pixels, characters))
        seconds += time.perf_counter() - start
    return Result(["\n".join(page) for page in pages], read, seconds)


def main() -> None:
    """Prints the lines that were misread and the share of characters that were not."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engine", choices=ENGINES, default="planck")
    parser.add_argument("--precision", default="fp32", help="of planck")
    parser.add_argument("--lines", type=int, default=50)
    parser.add_argument("--size", type=int, default=32, help="of the font, in pixels")
    options = parser.parse_args()
    result = measure(options.engine, options.lines, options.size, precision=options.precision)
    for drawn, read in zip(result.drawn, result.read, strict=True):
        for want, got in zip(drawn.split("\n"), read.split("\n"), strict=False):
            if want != got:
                print(f"drawn {want!r}\nread  {got!r}")
    print(
        f"{options.engine}: {result.accuracy:.2%} of the characters of {options.lines} lines are "
        f"right, {result.seconds:.2f} s"
    )


if __name__ == "__main__":
    main()

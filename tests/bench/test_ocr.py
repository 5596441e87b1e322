"""The parts of the OCR example, and its accuracy on ONNX Runtime."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

from bench import ocr
from bench.ocr import Box


def test_components_join_what_touches() -> None:
    picture = [
        "##...#",
        "..#..#",
        "...#.#",
        "#..###",
        "##....",
    ]
    mask = np.array([[cell == "#" for cell in row] for row in picture])
    assert sorted(ocr.components(mask)) == [Box(0, 0, 4, 6), Box(3, 0, 5, 2)]
    assert ocr.components(np.zeros((3, 4), dtype=bool)) == []
    assert ocr.components(np.ones((3, 4), dtype=bool)) == [Box(0, 0, 3, 4)]


def test_components_agree_with_flooding() -> None:
    mask = np.random.default_rng(0).random((40, 50)) < 0.4
    assert sorted(ocr.components(mask)) == flooded(mask)


def flooded(mask: np.ndarray) -> list[Box]:
    left, boxes = {(int(y), int(x)) for y, x in np.argwhere(mask)}, []
    while left:
        part, edge = set(), [left.pop()]
        while edge:
            y, x = edge.pop()
            part.add((y, x))
            near = {(y + i, x + j) for i in (-1, 0, 1) for j in (-1, 0, 1)} & left
            left -= near
            edge += near
        rows, columns = zip(*part, strict=True)
        boxes.append(Box(min(rows), min(columns), max(rows) + 1, max(columns) + 1))
    return sorted(boxes)


def test_boxes_grow_and_weak_ones_go() -> None:
    probability = np.zeros((40, 100), dtype=np.float32)
    probability[10:20, 20:60] = 0.9  # area 400, perimeter 100: grows by 6.4
    probability[30:34, 70:90] = 0.4
    probability[2:4, 2:90] = 0.9  # too low
    assert ocr.text_boxes(probability) == [Box(4, 14, 26, 66)]


def test_rows_read_from_left_to_right() -> None:
    boxes = [Box(1, 50, 11, 90), Box(0, 0, 10, 40), Box(20, 0, 30, 40)]
    assert ocr.rows(boxes) == [[boxes[1], boxes[0]], [boxes[2]]]


def test_decoded_drops_repeats_and_blanks() -> None:
    steps = [1, 1, 0, 1, 2, 2, 0, 0, 3]
    probabilities = np.eye(4, dtype=np.float32)[steps][None]
    assert ocr.decoded(probabilities, ["", "a", "b", "c"]) == ["aabc"]


@pytest.mark.parametrize(
    ("a", "b", "count"),
    [("", "", 0), ("abc", "", 3), ("", "ab", 2), ("kitten", "sitting", 3), ("ab", "ba", 2)],
)
def test_edits(a: str, b: str, count: int) -> None:
    assert ocr.edits(a, b) == ocr.edits(b, a) == count


def test_onnxruntime_reads_99_percent() -> None:
    for package in ("rapidocr_onnxruntime", "PIL", "onnxruntime", "onnx"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"the package {package} is not installed")
    result = ocr.measure("onnxruntime", count=50, size=32)
    assert len(result.read) == 5
    assert result.accuracy >= 0.99

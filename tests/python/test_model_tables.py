"""The published tables: numbers by hand, and their exact text."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from planck.models import tables

ROW = tables.WenetRow(16, 256, 8.0, 1e-2, 1.9e-4, 0.0, 0.0)

ENCODER_TABLE = """\
  bs   sl   lt(ms)        tp        a0        r0        a1        r1   check
  16  256    8.000 5.120e+05 1.000e-02 1.900e-04 0.000e+00 0.000e+00    Good
   1   16    2.000 8.000e+03 5.000e-02 1.900e-04 0.000e+00 0.000e+00     Bad
  average    5.000 2.600e+05 3.000e-02 1.900e-04 0.000e+00 0.000e+00
   target                     <3.5e-02  <2.0e-03            <1.0e-01"""

DECODER_TABLE = """\
  bs   sl   lt(ms)        tp        a0        r0        a1        r1  planck contest
  16  256    8.000 5.120e+05 1.000e-02 2.200e-04 0.000e+00 0.000e+00     Bad    Good
  average    8.000 5.120e+05 1.000e-02 2.200e-04 0.000e+00 0.000e+00
   target                     <4.0e-01  <2.0e-04            <1.0e-01
planck: r0 below 2.0e-04; contest: below 3.0e-04"""

VILBERT_TABLE = """\
batch    lt(ms)    loss/score     reference   max abs     valid   max rel    median <1e-3
    8    12.500      6.38 / 7      6.40 / 7 3.000e-02 5.000e-04 2.500e-03 1.000e-06    no"""


def test_wenet_errors() -> None:
    want = np.array([[1.0, -2.0, 0.0, 4.0]], np.float32), np.array([3], np.int32)
    got = np.array([[1.5, -2.0, 0.0, 4.0]], np.float32), np.array([4], np.int32)
    row = tables.wenet_row((4, 64), 2.0, got, want)
    assert (row.batch, row.length, row.ms) == (4, 64, 2.0)
    assert (row.a0, row.r0, row.a1) == (0.5, 0.0, 1.0)
    assert row.r1 == pytest.approx(1 / (3 + 1e-5))
    assert row.throughput == 4 * 64 / 2.0 * 1000


def test_a_mask_stands_for_lengths() -> None:
    mask = np.array([[[True, True, False]], [[True, False, False]]])
    out = np.zeros((2, 3, 4), np.float32)
    row = tables.wenet_row((2, 16), 1.0, (out, np.array([2, 1], np.int32)), (out, mask))
    assert (row.a1, row.r1) == (0, 0)


@pytest.mark.parametrize(
    ("change", "part", "ours", "contest"),
    [
        ({}, "encoder", True, True),
        ({}, "decoder", True, True),
        ({"r0": 2e-4}, "decoder", False, True),
        ({"r0": 3e-4}, "decoder", False, False),
        ({"r0": 1.9e-3}, "encoder", True, True),
        ({"a0": 3.5e-2}, "encoder", False, False),
        ({"a0": 3.9e-1}, "decoder", True, True),
        ({"r1": 0.1}, "encoder", False, False),
        ({"a1": 5.0}, "encoder", True, True),
        ({"a0": float("nan")}, "encoder", False, False),
    ],
)
def test_wenet_verdicts(
    change: dict[str, float], part: tables.Part, ours: bool, contest: bool
) -> None:
    row = replace(ROW, **change)
    assert (row.good(part), row.good(part, contest=True)) == (ours, contest)


def test_wenet_tables() -> None:
    bad = tables.WenetRow(1, 16, 2.0, 5e-2, 1.9e-4, 0.0, 0.0)
    assert tables.wenet_table("encoder", [ROW, bad]) == ENCODER_TABLE
    assert tables.wenet_table("decoder", [replace(ROW, r0=2.2e-4)]) == DECODER_TABLE


def logits(*values: float) -> Any:
    """f32 [1, 100, 1]: the given values, then what a mask leaves."""
    out = np.full((1, 100, 1), -10000, np.float32)
    out[0, : len(values), 0] = values
    return out


def test_vilbert_numbers() -> None:
    want, got = logits(2.0, -1.0, 0.0), logits(2.0, -1.0, 0.0005)
    got[0, 50] += 0.5  # a masked region
    targets = np.zeros((1, 100, 1), np.float32)
    targets[0, :2, 0] = [0.75, 0.25]
    mask = (np.arange(100) < 3).astype(np.int64)[None]
    row = tables.vilbert_row(3.0, got, want, targets, mask)
    entropy = [
        -t * np.log(p) - (1 - t) * np.log(1 - p)
        for t, p in ((0.75, 1 / (1 + np.exp(-2))), (0.25, 1 / (1 + np.exp(1))), (0, 0.5))
    ]
    assert row.reference_loss == pytest.approx(sum(entropy), rel=1e-6)
    assert row.loss == pytest.approx(sum(entropy) + 0.00025, rel=1e-5)
    assert (row.score, row.reference_score, row.batch) == (1, 1, 1)
    assert (row.max_abs, row.close) == (0.5, False)
    assert row.valid_abs == pytest.approx(5e-4)
    assert row.max_relative == pytest.approx(0.5)  # where the reference is 0
    assert row.median_relative == 0
    assert tables.vilbert_row(3.0, want, want, targets, mask).close


def test_vilbert_score_needs_half() -> None:
    want = logits(1.0, 3.0)
    targets = np.zeros((1, 100, 1), np.float32)
    mask = np.ones((1, 100), np.int64)
    for overlap, score in ((0.5, 0), (0.51, 1)):
        targets[0, 1] = overlap
        assert tables.vilbert_row(1.0, want, want, targets, mask).score == score


def test_vilbert_table() -> None:
    row = tables.VilbertRow(8, 12.5, 6.38, 7, 6.40, 7, 3e-2, 5e-4, 2.5e-3, 1e-6, False)
    assert tables.vilbert_table([row]) == VILBERT_TABLE


def test_bad_arguments() -> None:
    two = np.zeros((1, 2)), np.zeros(1)
    with pytest.raises(ValueError, match="ms is 0"):
        tables.wenet_row((1, 1), 0, two, two)
    with pytest.raises(ValueError, match="there are 1 and 2 arrays, but 2 are compared"):
        tables.wenet_row((1, 1), 1, two[:1], two)
    with pytest.raises(ValueError, match=r"the arrays are \(1, 2\) and \(1,\)"):
        tables.wenet_row((1, 1), 1, two, two[::-1])
    with pytest.raises(ValueError, match="part is 'both', but must be 'encoder' or 'decoder'"):
        tables.wenet_table("both", [ROW])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="at least one row"):
        tables.wenet_table("encoder", [])
    with pytest.raises(ValueError, match="at least one row"):
        tables.vilbert_table([])
    with pytest.raises(ValueError, match=r"image_mask is \(1, 2\), but must be \(1, 100\)"):
        tables.vilbert_row(1, logits(), logits(), logits(), np.ones((1, 2)))


# DAB-DETR.


def detr_outputs(logits: list[float], boxes: list[float]) -> dict[str, Any]:
    return {"pred_logits": np.array(logits), "pred_boxes": np.array(boxes)}


def test_detr_errors() -> None:
    want = detr_outputs([2.0, 0.0], [0.5, 0.5])
    images = [
        tables.detr_image(30.0, detr_outputs([2.0, 0.004], [0.5, 0.5]), want),
        tables.detr_image(20.0, detr_outputs([2.001, 0.0], [0.5, 0.75]), want),
    ]
    logits, boxes = tables.detr_rows(images)
    assert logits.absolute.max == 0.004 and logits.relative.max == pytest.approx(0.004 / 1e-5)
    assert logits.absolute.mean == pytest.approx(0.005 / 4)
    assert logits.soft == boxes.soft == 0.75  # 2.001 is within rtol 1e-3
    assert boxes.absolute == tables.Spread(0.0625, 0.25, 0.0) and not boxes.good
    head, *rows, last = tables.detr_table(images).splitlines()
    assert [row.split()[:2] for row in rows] == [
        [output, kind] for output in want for kind in ("absolute", "relative")
    ]
    assert rows[0].split()[2:5] == ["1.250e-03", "4.000e-03", "5.000e-04"]
    assert {len(row) for row in rows} == {len(head)}
    assert last.startswith("2 images, 25.000 ms each; relative: |x - ref| / (|ref| + 1e-05)")


def test_detr_beats_the_published() -> None:
    want = detr_outputs([1.0, -3.0], [0.5, 0.25])
    rows = tables.detr_rows([tables.detr_image(1.0, want, want)])
    assert all(row.good and row.soft == 1 for row in rows)
    worse = {name: array * np.nan for name, array in want.items()}
    assert not any(row.good for row in tables.detr_rows([tables.detr_image(1.0, worse, want)]))


def test_detr_bad_arguments() -> None:
    want = detr_outputs([1.0], [0.5])
    with pytest.raises(ValueError, match="at least one row"):
        tables.detr_table([])
    with pytest.raises(ValueError, match="ms is 0"):
        tables.detr_image(0, want, want)
    with pytest.raises(ValueError, match="alike"):
        tables.detr_image(1, detr_outputs([1.0, 2.0], [0.5]), want)


# BERT.

SWEEP_TABLE = """\
  bs   sl    lt(ms) ms/sample  sample/s   check
   1   16     2.000    2.0000     500.0    Good
   8   16    12.000    1.5000     666.7    Good
  16   16    26.000    1.6250     615.4     Bad
Good: a sample takes no longer than in a smaller batch, within 5%"""


def test_sweep() -> None:
    rows = [tables.sweep_row(*row) for row in (((1, 16), 2.0), ((8, 16), 12.0), ((16, 16), 26.0))]
    assert tables.sweep_table(rows) == SWEEP_TABLE
    assert tables.sweep_good(rows[::-1]) == [False, True, True]  # the order does not matter
    assert tables.sweep_good([replace(rows[2], ms=25.2), rows[1]]) == [True, True]
    assert tables.sweep_good([replace(rows[2], length=32), rows[1]]) == [True, True]
    with pytest.raises(ValueError, match="at least one row"):
        tables.sweep_table([])
    with pytest.raises(ValueError, match="ms is -1"):
        tables.sweep_row((1, 16), -1)


def test_vilbert_agrees() -> None:
    row = tables.VilbertRow(8, 1.0, 6.5, 7, 6.38, 6, 0, 0, 0, 0, False)
    assert row.agrees
    assert not replace(row, loss=6.6).agrees and not replace(row, score=4).agrees

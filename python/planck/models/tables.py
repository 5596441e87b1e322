"""The published tables of WeNet, ViLBERT, DAB-DETR and BERT: rows from arrays and times, and text.

Nothing here runs a model: a row takes what an engine gave, a reference and a latency.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from planck.models._weights import Array

Part = Literal["encoder", "decoder"]

_WENET_EPSILON = 1e-5
_VILBERT_EPSILON = 1e-3
_CLOSE = 1e-3
_HIT = 0.5  # overlap beyond which a region is what the sample asked for
_DETR_EPSILON = 1e-5  # the published one is not known
_SOFT_RTOL, _SOFT_ATOL = 1e-3, 1e-5
_TOLERANCE = 0.05  # of the time per sample in a sweep over batches


@dataclass(frozen=True, slots=True)
class Limits:
    """Exclusive bounds of a WeNet part; those of the contest differ from ours in r0 only."""

    a0: float
    r0: float
    r1: float
    contest_r0: float


WENET_LIMITS: dict[Part, Limits] = {
    "encoder": Limits(a0=3.5e-2, r0=2e-3, r1=1e-1, contest_r0=2e-3),
    "decoder": Limits(a0=4e-1, r0=2e-4, r1=1e-1, contest_r0=3e-4),
}


@dataclass(frozen=True, slots=True)
class WenetRow:
    """One shape: latency in ms, largest absolute and median relative error of both outputs."""

    batch: int
    length: int
    ms: float
    a0: float
    r0: float
    a1: float
    r1: float

    @property
    def throughput(self) -> float:
        """Frames of all samples per second."""
        return self.batch * self.length / self.ms * 1000

    def good(self, part: Part, contest: bool = False) -> bool:
        """Whether the errors are within the limits; NaN is not."""
        limits = WENET_LIMITS[_checked(part)]
        r0 = limits.contest_r0 if contest else limits.r0
        return self.a0 < limits.a0 and self.r0 < r0 and self.r1 < limits.r1


def wenet_row(
    shape: tuple[int, int], ms: float, got: Sequence[Array], want: Sequence[Array]
) -> WenetRow:
    """Compare two outputs with their reference, padding included.

    shape: (batch, frames). got, want: encoder_out and encoder_out_lens, or decoder_out and
    best_index; the reference of the lengths may be the mask bool [B, 1, T'].
    Errors: ValueError for a latency that is not positive, or arrays of another count or shape.

    >>> import numpy as np
    >>> want = np.ones((1, 3, 4)), np.array([3])
    >>> row = wenet_row((1, 16), 2.0, (want[0] + 0.25, want[1]), want)
    >>> row.a0, row.a1, row.throughput, row.good("encoder")
    (0.25, 0.0, 8000.0, False)
    """
    _check_latency(ms)
    if len(got) != 2 or len(want) != 2:
        raise ValueError(f"there are {len(got)} and {len(want)} arrays, but 2 are compared")
    (a0, r0), (a1, r1) = (_errors(x, _lengths(y)) for x, y in zip(got, want, strict=True))
    return WenetRow(*shape, ms, a0, r0, a1, r1)


def wenet_table(part: Part, rows: Sequence[WenetRow]) -> str:
    """The contest table: a line for each row with its verdict, the averages, the targets.

    The columns are bs, sl, lt (ms), tp (word/s), a0, r0, a1, r1 and the verdict. For the decoder
    our limit of r0 is stricter than the contest's, so both verdicts stand side by side.
    Errors: ValueError for an unknown part, or without rows.
    """
    limits = WENET_LIMITS[_checked(part)]
    if not rows:
        raise ValueError("a table needs at least one row")
    verdicts = ["check"] if limits.r0 == limits.contest_r0 else ["planck", "contest"]
    names = ("tp", "a0", "r0", "a1", "r1")
    head = f"{'bs':>4} {'sl':>4} {'lt(ms)':>8} " + " ".join(f"{name:>9}" for name in names)
    lines = [" ".join([head, *(f"{name:>7}" for name in verdicts)])]
    for row in rows:
        answers = [row.good(part, contest=name == "contest") for name in verdicts]
        numbers = _wenet_numbers([row])
        words = [f"{'Good' if good else 'Bad':>7}" for good in answers]
        lines.append(" ".join([f"{row.batch:4d} {row.length:4d} {numbers}", *words]))
    lines.append(f"{'average':>9} {_wenet_numbers(rows)}")
    r0 = f"<{limits.r0:.1e}"
    lines.append(
        f"{'target':>9} {'':8} {'':9} {f'<{limits.a0:.1e}':>9} {r0:>9} {'':9} "
        f"{f'<{limits.r1:.1e}':>9}"
    )
    if len(verdicts) > 1:
        lines.append(f"planck: r0 below {limits.r0:.1e}; contest: below {limits.contest_r0:.1e}")
    return "\n".join(lines)


def _wenet_numbers(rows: Sequence[WenetRow]) -> str:
    """The mean of each number over rows."""

    def mean(name: str) -> float:
        return float(np.mean([getattr(row, name) for row in rows]))

    numbers = " ".join(f"{mean(name):9.3e}" for name in ("throughput", "a0", "r0", "a1", "r1"))
    return f"{mean('ms'):8.3f} {numbers}"


def _errors(got: Array, want: Array) -> tuple[float, float]:
    """Largest absolute and median relative error."""
    x, y = _pair(got, want)
    gap = np.abs(x - y)
    return float(gap.max()), float(np.median(gap / (np.abs(y) + _WENET_EPSILON)))


def _lengths(reference: Array) -> Array:
    """Counts the frames of a mask bool [B, 1, T']; other arrays are returned as they are."""
    if reference.dtype != np.bool_:
        return reference
    counts: Array = reference.sum(axis=-1).reshape(-1)
    return counts


@dataclass(frozen=True, slots=True)
class VilbertRow:
    """One batch: latency in ms, loss and score beside those of the reference, and the errors.

    max_abs, max_relative, median_relative: over all regions; valid_abs: over valid regions alone,
    since the mask of the others costs digits. close: every error is below 1e-3.
    """

    batch: int
    ms: float
    loss: float
    score: int
    reference_loss: float
    reference_score: int
    max_abs: float
    valid_abs: float
    max_relative: float
    median_relative: float
    close: bool

    @property
    def agrees(self) -> bool:
        """Whether the loss is within 3 % of the reference's and the score within one sample."""
        gap = abs(self.loss - self.reference_loss)
        return gap <= 0.03 * self.reference_loss and abs(self.score - self.reference_score) <= 1


def vilbert_row(
    ms: float, got: Array, want: Array, targets: Array, image_mask: Array
) -> VilbertRow:
    """Compare logits f32 [B, 100, 1] with their reference.

    targets: f32 [B, 100, 1], see `planck.models.vilbert.targets`; image_mask: i64 [B, 100].
    loss: mean binary cross-entropy of the logits, times the number of regions. score: samples
    whose highest logit stands at a region with a target above 0.5.
    Errors: ValueError for a latency that is not positive, or arrays of another shape.
    """
    _check_latency(ms)
    x, y = _pair(got, want)
    _pair(want, targets)
    if image_mask.shape != want.shape[:2]:
        raise ValueError(f"image_mask is {image_mask.shape}, but must be {want.shape[:2]}")
    gap = np.abs(x - y)
    relative = gap / (np.abs(y) + _VILBERT_EPSILON)
    return VilbertRow(
        batch=len(x),
        ms=ms,
        loss=_loss(x, targets),
        score=_score(x, targets),
        reference_loss=_loss(y, targets),
        reference_score=_score(y, targets),
        max_abs=float(gap.max()),
        valid_abs=float((gap[..., 0] * (image_mask != 0)).max()),
        max_relative=float(relative.max()),
        median_relative=float(np.median(relative)),
        close=bool((gap < _CLOSE).all()),
    )


def vilbert_table(rows: Sequence[VilbertRow]) -> str:
    """The batch table: a line for each row; `valid` is the largest error of the valid regions.

    Errors: ValueError without rows.
    """
    if not rows:
        raise ValueError("a table needs at least one row")
    lines = [
        f"{'batch':>5} {'lt(ms)':>9} {'loss/score':>13} {'reference':>13} {'max abs':>9} "
        f"{'valid':>9} {'max rel':>9} {'median':>9} {'<1e-3':>5}"
    ]
    for row in rows:
        ours = f"{row.loss:.2f} / {row.score}"
        reference = f"{row.reference_loss:.2f} / {row.reference_score}"
        lines.append(
            f"{row.batch:5d} {row.ms:9.3f} {ours:>13} {reference:>13} {row.max_abs:9.3e} "
            f"{row.valid_abs:9.3e} {row.max_relative:9.3e} {row.median_relative:9.3e} "
            f"{'yes' if row.close else 'no':>5}"
        )
    return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class Spread:
    """Mean, largest and median error."""

    mean: float
    max: float
    median: float

    def below(self, other: Spread) -> bool:
        """Whether each of the three is smaller; NaN is not."""
        return self.mean < other.mean and self.max < other.max and self.median < other.median


# Published for an engine whose products were TF32: fp32 must be below.
DETR_PUBLISHED = {
    "pred_logits": (Spread(9e-4, 2e-3, 6e-4), Spread(1e-4, 4e-3, 7e-5)),
    "pred_boxes": (Spread(1e-4, 3e-3, 7e-5), Spread(6e-4, 2e-2, 2e-4)),
}


@dataclass(frozen=True, slots=True)
class DetrImage:
    """One picture: latency in ms, and of each output the absolute and relative errors."""

    ms: float
    errors: Mapping[str, tuple[Array, Array]]
    soft: Mapping[str, int]  # elements within rtol 1e-3 and atol 1e-5


@dataclass(frozen=True, slots=True)
class DetrRow:
    """Errors of one output over all pictures; soft: share within rtol 1e-3 and atol 1e-5."""

    output: str
    absolute: Spread
    relative: Spread
    soft: float

    @property
    def good(self) -> bool:
        """Whether both errors are below the published ones."""
        absolute, relative = DETR_PUBLISHED[self.output]
        return self.absolute.below(absolute) and self.relative.below(relative)


def detr_image(ms: float, got: Mapping[str, Array], want: Mapping[str, Array]) -> DetrImage:
    """Compare pred_logits and pred_boxes with their reference.

    Errors: ValueError for a latency that is not positive, or arrays of another shape; KeyError
    without an output.
    """
    _check_latency(ms)
    errors, soft = {}, {}
    for name in DETR_PUBLISHED:
        x, y = _pair(got[name], want[name])
        gap = np.abs(x - y)
        errors[name] = gap, gap / (np.abs(y) + _DETR_EPSILON)
        soft[name] = int((gap <= _SOFT_ATOL + _SOFT_RTOL * np.abs(y)).sum())
    return DetrImage(ms, errors, soft)


def detr_rows(images: Sequence[DetrImage]) -> list[DetrRow]:
    """A row for each output, over the elements of all pictures. Errors: ValueError without one.

    >>> import numpy as np
    >>> want = {"pred_logits": np.ones((1, 300, 91)), "pred_boxes": np.ones((1, 300, 4))}
    >>> got = {name: array + 2.0**-20 for name, array in want.items()}
    >>> [(row.output, row.absolute.max == 2.0**-20, row.good)
    ...  for row in detr_rows([detr_image(30.0, got, want)])]
    [('pred_logits', True, True), ('pred_boxes', True, True)]
    """
    if not images:
        raise ValueError("a table needs at least one row")
    rows = []
    for name in DETR_PUBLISHED:
        absolute, relative = (
            np.concatenate([image.errors[name][kind].ravel() for image in images])
            for kind in range(2)
        )
        soft = sum(image.soft[name] for image in images) / absolute.size
        rows.append(DetrRow(name, _spread(absolute), _spread(relative), soft))
    return rows


def detr_table(images: Sequence[DetrImage]) -> str:
    """The error table: mean, max and median of both errors of each output, beside the published.

    Errors: ValueError without pictures.
    """
    lines = [
        f"{'output':<11} {'error':<8} {'mean':>9} {'max':>9} {'median':>9} "
        f"{'published mean, max, median':>29} {'soft':>8} {'check':>5}"
    ]
    for row in detr_rows(images):
        for kind, spread, published in zip(
            ("absolute", "relative"),
            (row.absolute, row.relative),
            DETR_PUBLISHED[row.output],
            strict=True,
        ):
            numbers = f"{spread.mean:9.3e} {spread.max:9.3e} {spread.median:9.3e}"
            targets = f"<{published.mean:.1e} <{published.max:.1e} <{published.median:.1e}"
            verdict = "Good" if spread.below(published) else "Bad"
            lines.append(
                f"{row.output:<11} {kind:<8} {numbers} {targets:>29} {row.soft:8.3%} {verdict:>5}"
            )
    mean = float(np.mean([image.ms for image in images]))
    lines.append(
        f"{len(images)} image{'s' * (len(images) > 1)}, {mean:.3f} ms each; "
        f"relative: |x - ref| / (|ref| + {_DETR_EPSILON:.0e}); "
        f"soft: rtol {_SOFT_RTOL:.0e}, atol {_SOFT_ATOL:.0e}"
    )
    return "\n".join(lines)


def _spread(errors: Array) -> Spread:
    return Spread(float(errors.mean()), float(errors.max()), float(np.median(errors)))


@dataclass(frozen=True, slots=True)
class SweepRow:
    """One batch of samples of `length` tokens: latency in ms."""

    batch: int
    length: int
    ms: float

    @property
    def per_sample(self) -> float:
        """Milliseconds of one sample."""
        return self.ms / self.batch


def sweep_row(shape: tuple[int, int], ms: float) -> SweepRow:
    """Take the latency of a batch. Errors: ValueError for one that is not positive."""
    _check_latency(ms)
    return SweepRow(*shape, ms)


def sweep_good(rows: Sequence[SweepRow]) -> list[bool]:
    """Say of each row whether a sample takes no longer than in any smaller batch, within 5 %.

    >>> sweep_good([SweepRow(1, 16, 2.0), SweepRow(2, 16, 4.1), SweepRow(4, 16, 9.0)])
    [True, True, False]
    """
    return [
        all(
            row.per_sample <= (1 + _TOLERANCE) * other.per_sample
            for other in rows
            if other.batch < row.batch and other.length == row.length
        )
        for row in rows
    ]


def sweep_table(rows: Sequence[SweepRow]) -> str:
    """The batch sweep: a line for each batch with its verdict. Errors: ValueError without rows."""
    if not rows:
        raise ValueError("a table needs at least one row")
    lines = [f"{'bs':>4} {'sl':>4} {'lt(ms)':>9} {'ms/sample':>9} {'sample/s':>9}   check"]
    for row, good in zip(rows, sweep_good(rows), strict=True):
        lines.append(
            f"{row.batch:4d} {row.length:4d} {row.ms:9.3f} {row.per_sample:9.4f} "
            f"{1000 / row.per_sample:9.1f} {'Good' if good else 'Bad':>7}"
        )
    lines.append(f"Good: a sample takes no longer than in a smaller batch, within {_TOLERANCE:.0%}")
    return "\n".join(lines)


def _loss(logits: Array, targets: Array) -> float:
    entropy = np.maximum(logits, 0) - logits * targets + np.log1p(np.exp(-np.abs(logits)))
    return float(entropy.mean() * logits.shape[1])


def _score(logits: Array, targets: Array) -> int:
    best = logits[..., 0].argmax(axis=1)
    return int((targets[np.arange(len(best)), best, 0] > _HIT).sum())


def _pair(got: Array, want: Array) -> tuple[Array, Array]:
    """Both in double. Errors: ValueError for shapes that differ, or without elements."""
    if got.shape != want.shape or got.size == 0:
        raise ValueError(f"the arrays are {got.shape} and {want.shape}, but must be alike")
    return got.astype(np.float64), want.astype(np.float64)


def _check_latency(ms: float) -> None:
    if not ms > 0:
        raise ValueError(f"ms is {ms}, but must be positive")


def _checked(part: Part) -> Part:
    if part not in WENET_LIMITS:
        raise ValueError(f"part is {part!r}, but must be 'encoder' or 'decoder'")
    return part

"""The trained minis: torch's outputs, the metric of each, and what the tasks count."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import planck
import planck.models
from bench.train import digits, patterns, scenes, tones
from bench.train.evaluate import TASKS, agreement, calibration, evaluate, measure
from bench.train.task import CALIBRATION, HELD_OUT, Array, Arrays, Task

FOLDER = Path(planck.models.__file__).parent / "trained"
TRAIN = Path(digits.__file__).parent
STEMS = sorted(path.stem for path in FOLDER.glob("*.npz"))
METRICS = json.loads((TRAIN / "metrics.json").read_text(encoding="utf-8"))
SAMPLES = {"digits": 500, "bert_classifier": 500, "wenet_encoder": 256, "vilbert": 64}
# Of the held-out samples; an error rate for wenet_encoder, else a share of right answers.
GOALS = {"digits": 0.98, "bert_classifier": 0.99, "wenet_encoder": 0.03, "vilbert": 0.93}

Planned = Callable[[str], planck.Plan]


def model_of(stem: str) -> tuple[str, bool | str]:
    name = stem.removesuffix("_qat")
    return name, True if stem == name else "qat"


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> Planned:
    """A plan of the trained weights with this name, built once."""
    plans: dict[str, planck.Plan] = {}

    def plan(stem: str) -> planck.Plan:
        if stem not in plans:
            name, trained = model_of(stem)
            path = tmp_path_factory.mktemp("trained") / f"{stem}.onnx"
            planck.models.write(name, path, size="mini", trained=trained)
            plans[stem] = planck.build(path)
        return plans[stem]

    return plan


@pytest.mark.parametrize("stem", STEMS)
def test_outputs_are_those_of_torch(stem: str, planned: Planned) -> None:
    with np.load(TRAIN / "expected" / f"{stem}.npz") as file:
        expected = {name: file[name] for name in file.files}
    samples = len(next(iter(expected.values())))
    feeds = TASKS[model_of(stem)[0]].make(HELD_OUT, 0, samples).feeds
    outputs = planned(stem).run(feeds)
    for name, want in expected.items():
        error = np.abs(outputs[name].astype(np.float64) - want).max()
        assert error <= 1e-4, f"{name} of {stem} is off by {error}"


@pytest.mark.parametrize("name", TASKS)
def test_metric_of_every_mini(name: str, planned: Planned) -> None:
    got = evaluate(name, planned(name), samples=SAMPLES[name])
    whole = next(iter(METRICS[name].values()))
    if name == "wenet_encoder":  # errors, not hits
        assert got <= GOALS[name]
    else:
        assert got >= GOALS[name]
    if SAMPLES[name] == TASKS[name].samples:
        assert got == pytest.approx(whole, abs=1.5 / TASKS[name].samples)


def test_quantisation_aware_weights_are_good_in_float(planned: Planned) -> None:
    assert evaluate("digits", planned("digits_qat")) == pytest.approx(
        METRICS["digits_qat"]["accuracy"], abs=1e-3
    )


BLOCKS = [f"encoder.encoders.{i}.feed_forward{part}" for i in (0, 1) for part in ("", "_macaron")]
ON_GRIDS = {
    "digits_qat": ["conv1", "conv2", "conv3", "conv4", "fc1", "fc2"],
    "wenet_encoder_qat": [f"{block}.{product}" for block in BLOCKS for product in ("w_1", "w_2")],
}


@pytest.mark.parametrize("stem", ON_GRIDS)
def test_ranges_are_named_after_weights(stem: str) -> None:
    """Per tensor for inputs, per output channel for weights, in the layout of the weight."""
    with np.load(TRAIN / "ranges" / f"{stem}.npz") as file:
        ranges = {name: file[name] for name in file.files}
    with np.load(FOLDER / f"{stem}.npz") as file:
        weights = {name: file[name].astype(np.float32) for name in file.files}
    for module in ON_GRIDS[stem]:
        weight = np.abs(weights[f"{module}.weight"])
        largest = weight.max(axis=tuple(range(1, weight.ndim)), keepdims=True)
        np.testing.assert_array_equal(ranges.pop(f"{module}._weight_quantizer._amax"), largest)
        of_input = ranges.pop(f"{module}._input_quantizer._amax")
        assert of_input.shape == ()
        assert of_input > 0
    assert not ranges


@pytest.mark.parametrize("stem", ON_GRIDS)
def test_on_its_grids_the_network_is_as_good(stem: str) -> None:
    on_grids, floats = (
        next(iter(METRICS[key].values())) for key in (f"{stem}_int8", stem.removesuffix("_qat"))
    )
    assert abs(on_grids - floats) <= 0.01


@pytest.mark.parametrize("stem", STEMS)
def test_weights_are_small(stem: str) -> None:
    assert (FOLDER / f"{stem}.npz").stat().st_size < 1_000_000


@pytest.mark.parametrize("task", TASKS.values(), ids=list(TASKS))
def test_splits_do_not_meet(task: Task) -> None:
    port = {"wenet_encoder": "speech", "vilbert": "features"}.get(task.model)
    held_out, other = (
        {row.tobytes() for row in _rows(task.make(split, 0, 4).feeds, port)}
        for split in (HELD_OUT, CALIBRATION)
    )
    assert len(held_out) == len(other) == 4
    assert not held_out & other


def _rows(feeds: Arrays, port: str | None) -> Array:
    return feeds[port] if port else next(iter(feeds.values()))


def test_fewer_samples_are_the_first_ones() -> None:
    full = [b.feeds["input_ids"] for b in TASKS["bert_classifier"].batches(HELD_OUT, 260)]
    assert [len(x) for x in full] == [250, 10]
    (few,) = TASKS["bert_classifier"].batches(HELD_OUT, 250)
    np.testing.assert_array_equal(few.feeds["input_ids"], full[0])


def test_a_constant_answer_is_worth_a_third() -> None:
    def first(feeds: dict[str, Array]) -> Arrays:
        return {"logits": np.eye(3, dtype=np.float32)[np.zeros(len(feeds["input_ids"]), int)]}

    assert 0.2 < evaluate("bert_classifier", first, samples=250) < 0.6
    assert agreement("bert_classifier", first, first, samples=250) == 1.0


def test_right_answers_are_worth_everything() -> None:
    """Outputs made of the answers: a perfect engine scores 1, or makes no error."""
    (batch,) = TASKS["vilbert"].batches(HELD_OUT, 4)
    totals = scenes.score({"vision_logit": 50 * (batch.answers["overlap"] - 0.5)}, batch)
    assert totals["share of right regions"] == (4, 4)
    (batch,) = TASKS["wenet_encoder"].batches(HELD_OUT, 2)
    assert tones.score(_spoken(batch.answers["labels"]), batch)["character error rate"][0] == 0
    labels = [row[:-1] for row in batch.answers["labels"]]
    assert tones.score(_spoken(labels), batch)["character error rate"][0] == 2


def _spoken(labels: list[tuple[int, ...]]) -> Arrays:
    """CTC outputs that read as the labels: each for two frames, then a blank."""
    frames = [[x for label in row for x in (label, label, tones.BLANK)] for row in labels]
    log_probs = np.full((len(frames), max(map(len, frames)), tones.LABELS + 1), -9.0)
    for row, path in zip(log_probs, frames, strict=True):
        row[np.arange(len(path)), path] = 0.0
    return {"ctc_log_probs": log_probs, "encoder_out_lens": np.array([len(x) for x in frames])}


def test_labels_of_patterns() -> None:
    first, second, third, none = 200, 264, 328, 448
    rows = [
        [first, second, third, second, third],  # one of the first, two of the second
        [first, second, none, first, second],
        [third, second, first, none, first],
        [first, second, third, none, none],
    ]
    assert patterns.labels(np.array(rows)).tolist() == [1, 0, 2, 2]


@pytest.mark.parametrize(
    ("got", "expected", "edits"),
    [((), (1, 2), 2), ((1, 2), (1, 2), 0), ((2, 1), (1, 2), 2), ((1, 9, 2), (1, 2), 1)],
)
def test_edit_distance(got: tuple[int, ...], expected: tuple[int, ...], edits: int) -> None:
    assert tones.edit_distance(got, expected) == edits


def test_phrases_name_one_region() -> None:
    """The answer has overlap 1 with itself, and is a region of the scene, not the picture."""
    (batch,) = TASKS["vilbert"].batches(HELD_OUT, 16)
    overlap, mask = batch.answers["overlap"][..., 0], batch.feeds["image_mask"]
    np.testing.assert_allclose(overlap.max(axis=1), 1.0)
    assert (overlap[:, 0] < 0.5).all()
    assert (overlap[mask == 0] == 0).all()
    assert (mask.sum(axis=1) >= 10).all()


def test_measures_come_with_the_metric_first(planned: Planned) -> None:
    measures = measure("vilbert", planned("vilbert"), samples=8)
    assert list(measures) == ["share of right regions", "loss"]


def test_calibration_feeds_run(planned: Planned) -> None:
    feeds = list(calibration("digits", samples=150))
    assert [len(x["image"]) for x in feeds] == [100, 50]
    assert planned("digits").run(feeds[0])["logits"].shape == (100, 10)


def test_unknown_task() -> None:
    with pytest.raises(ValueError, match="there is no task 'resnet50'; the tasks are digits"):
        evaluate("resnet50", lambda feeds: feeds)

"""planck.calibrate: what is observed, that partitions do not matter, thresholds, and bad calls."""

from __future__ import annotations

import io
import logging
import math
import os
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

import planck
from planck import Calibration, _core

Array = NDArray[Any]
METHODS = ("auto", "entropy", "minmax", "percentile", "mse", "legacy")


# --- statistics without a model ---


def observed(*arrays: Array, exact: bool = False) -> Calibration:
    """The calibration of tensors t0, t1, ..."""
    facts = {"method": "auto", "percentile": 99.99, "zero_policy": "skip", "exact": exact}
    core = _core.Calibration(facts, [{"name": f"t{i}"} for i in range(len(arrays))])
    batch = list(enumerate(arrays))
    core.observe(batch, 64, 0, 1)
    if exact:
        core.start_second_pass()
        core.observe_again(batch, 1)
    return Calibration(core)


def sqnr(x: Array, threshold: float) -> float:
    """Signal to noise of the symmetric int8 grid that saturates at the threshold, dB."""
    scale = threshold / 127
    q = np.clip(np.rint(x / scale), -128, 127) * scale
    return float(10 * np.log10(np.mean(x**2) / np.mean((x - q) ** 2)))


def distributions() -> dict[str, Array]:
    """The data of the table below, a million samples each.

    Heavy tails decide by their one largest sample: seeds are those whose maximum is the table's.
    """
    n = 1_000_000

    def random(seed: int = 0) -> np.random.Generator:
        return np.random.default_rng(seed)

    stream = random()
    gauss = stream.standard_normal(n)
    stream.laplace(size=n), stream.standard_normal(n)
    outliers = gauss.copy()
    outliers[:: n // 100] = 60
    channels = random(1).standard_normal((1302, 768))
    channels[:, random(1).permutation(768)[:6]] *= 40
    exp = np.exp(4 * random(2).standard_normal((7812, 128)))
    erf = np.fromiter(map(math.erf, gauss * math.sqrt(2)), float, n)
    return {
        "gaussian": gauss,
        "laplace": random(5).laplace(size=n),
        "relu": np.maximum(gauss, 0),
        "gelu": gauss * (1 + erf),  # of 2 * gauss
        "student": stream.standard_t(3, n),
        "outliers": outliers,
        "channels": channels.reshape(-1),
        "softmax": (exp / exp.sum(1, keepdims=True)).reshape(-1),
    }


# threshold / absmax and SQNR in dB by max, entropy keep, entropy skip, mse, 99.99 %.
TABLE: dict[str, tuple[tuple[float, float], ...]] = {
    "gaussian": ((1.00, 39.4), (0.985, 39.5), (0.985, 39.5), (0.83, 40.6), (0.82, 40.6)),
    "laplace": ((1.00, 33.5), (0.91, 34.3), (0.91, 34.3), (0.77, 35.2), (0.72, 35.0)),
    "relu": ((1.00, 39.4), (0.44, 20.3), (0.945, 39.9), (0.83, 40.6), (0.79, 40.3)),
    "gelu": ((1.00, 36.9), (0.58, 29.3), (0.77, 38.0), (0.78, 38.0), (0.79, 38.0)),
    "student": ((1.00, 15.5), (0.18, 15.7), (0.18, 15.7), (0.50, 20.1), (0.23, 16.8)),
    "outliers": ((1.00, 18.6), (0.07, 6.4), (0.07, 6.4), (0.95, 18.9), (0.08, 6.5)),
    "channels": ((1.00, 20.3), (0.39, 13.9), (0.39, 13.9), (0.71, 22.5), (0.64, 22.2)),
    "softmax": ((1.00, 35.5), (0.06, 1.2), (0.24, 4.4), (0.99, 35.5), (0.99, 35.5)),
}


@pytest.fixture(scope="module")
def data() -> dict[str, Array]:
    return {name: x.astype(np.float32) for name, x in distributions().items()}


# What thresholds and SQNR may differ by: tails move with the sample.
SHARE, DECIBEL = 0.1, 1.0


@pytest.mark.parametrize("name", TABLE)
def test_measured_behaviour(data: dict[str, Array], name: str) -> None:
    x = data[name]
    calibration = observed(x, exact=True)
    absmax = float(np.abs(x).max())
    ways: list[tuple[str, dict[str, Any]]] = [
        ("minmax", {}),
        ("entropy", {"zero_policy": "keep"}),
        ("entropy", {}),
        ("mse", {}),
        ("percentile", {}),
    ]
    found = []
    for (method, options), (share, decibel) in zip(ways, TABLE[name], strict=True):
        row = calibration.table(method, activation="s8", **options)[0]
        threshold = float(row.grid.threshold or 0)
        found.append(sqnr(x.astype(np.float64), threshold))
        assert row.sqnr_db == pytest.approx(found[-1], abs=0.3), method
        assert found[-1] == pytest.approx(decibel, abs=DECIBEL), method
        assert threshold / absmax == pytest.approx(share, abs=SHARE), method
    # Nothing beats mse, and auto is at most 0.1 dB behind it.
    assert max(found) <= found[3] + 0.05
    chosen = calibration.table("auto", activation="s8")[0]
    assert sqnr(x.astype(np.float64), float(chosen.grid.threshold or 0)) > found[3] - 0.15


def test_powers_of_two_differ_little_from_equal_bins(data: dict[str, Array]) -> None:
    for name, two, equal in (("gaussian", 0.951, 0.985), ("relu", 0.975, 0.945)):
        shares = []
        for exact in (False, True):
            row = observed(data[name], exact=exact).table("entropy", activation="s8")[0]
            shares.append(float(row.grid.threshold or 0) / float(np.abs(data[name]).max()))
        assert shares == pytest.approx([two, equal], abs=0.002)


def test_the_entropy_failure_is_named(data: dict[str, Array]) -> None:
    calibration = observed(data["relu"], data["gaussian"], data["outliers"])
    scales = calibration.solve("entropy", zero_policy="keep", activation="s8")
    assert [note.split()[1] for note in scales.notes] == ["'t0'", "'t2'"]
    assert all("loses" in note for note in scales.notes)
    assert not calibration.solve("entropy", activation="s8").notes[1:]  # skip repairs t0


def direct_divergence(h: Array, i: int) -> float:
    """KL(P || Q) of the first i bins, straight from the definition."""
    group = 128 * np.arange(i) // i
    filled = h[:i] > 0
    sums = np.bincount(group, h[:i], 128)
    counts = np.bincount(group, filled, 128)
    q = np.where(filled, sums[group] / np.maximum(counts[group], 1), 0)
    p = h[:i].astype(np.float64)
    p[-1] += h[i:].sum()
    p, q = p / p.sum(), q / q.sum()
    with np.errstate(divide="ignore"):
        terms = p[p > 0] * np.log(p[p > 0] / q[p > 0])
    return float(terms.sum())


@pytest.mark.parametrize("policy", ["skip", "keep"])
@pytest.mark.parametrize("name", ["gaussian", "relu", "laplace"])
def test_divergence_in_closed_form(data: dict[str, Array], name: str, policy: str) -> None:
    calibration = observed(data[name][:200_000])
    h = calibration.histogram("t0")
    bins = (h["neg"] + h["pos"]).astype(np.int64)
    bins[0] += h["zeros"]
    merged = bins.reshape(-1, 2).sum(1)
    merged = merged[: np.flatnonzero(merged)[-1] + 1]
    if policy == "skip":
        merged[0] = merged[1]
    direct = np.array([direct_divergence(merged, i) for i in range(128, len(merged) + 1)])
    thresholds, closed = calibration.divergence("t0", policy)
    finite = np.isfinite(direct)
    assert np.array_equal(finite, np.isfinite(closed))
    assert np.abs(direct[finite] - closed[finite]).max() < 1e-9
    assert np.argmin(direct) == np.argmin(closed)
    width = 2.0 ** (h["exponent"] - 11)
    assert thresholds[0] == 128.5 * width and thresholds[-1] == (len(merged) + 0.5) * width


def test_error_is_that_of_the_deployed_grid(data: dict[str, Array]) -> None:
    x = data["gelu"]
    calibration = observed(x)
    for row in calibration.table("mse", activation="u8"):
        scale, zero = float(row.grid.scale[0]), int(row.grid.zero_point[0])
        q = np.clip(np.rint(x.astype(np.float64) / scale) + zero, 0, 255)
        actual = np.mean((x - (q - zero) * scale) ** 2)
        threshold = float(row.grid.threshold or 0)
        assert calibration.error("t0", [threshold], "u8")[0] == pytest.approx(actual, rel=0.02)
        errors = calibration.error("t0", np.linspace(0.2, 1, 50) * np.abs(x).max(), "u8")
        assert errors.min() >= calibration.error("t0", [threshold], "u8")[0] * (1 - 1e-9)


def test_grids_by_type() -> None:
    random = np.random.default_rng(1)
    gauss = random.standard_normal(50_000).astype(np.float32)
    calibration = observed(gauss, np.maximum(gauss, 0), -np.maximum(gauss, 0))
    free = calibration.solve("minmax")
    assert [free[n].dtype for n in free] == ["s8", "u8", "u8"]
    assert [int(free[n].zero_point[0]) for n in free] == [0, 0, 255]
    assert free["t1"].scale[0] == np.float32(gauss.max() / 255)
    forced = calibration.solve("minmax", activation="s8")
    assert {t.dtype for t in forced.values()} == {"s8"}
    assert forced["t0"].scale[0] == np.float32(np.abs(gauss).max().astype(np.float64) / 127)


def test_solving_changes_nothing_and_repeats() -> None:
    calibration = observed(np.random.default_rng(2).standard_normal(9999).astype(np.float32))
    before = calibration.to_bytes()
    first = [calibration.solve(method) for method in METHODS]
    assert [calibration.solve(method) for method in METHODS] == first
    assert calibration.to_bytes() == before


def test_other_float_types() -> None:
    half = np.random.default_rng(3).standard_normal(5000).astype(np.float16)
    for array in (half, half.astype(np.float64)):
        assert observed(array).to_bytes() == observed(half.astype(np.float32)).to_bytes()


# --- models ---


def model_of(
    nodes: list[onnx.NodeProto],
    inputs: dict[str, list[int | str]],
    outputs: list[str],
    weights: dict[str, Array],
) -> bytes:
    def port(name: str, shape: list[int | str] | None) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

    graph = helper.make_graph(
        nodes,
        "g",
        [port(name, shape) for name, shape in inputs.items()],
        [port(name, None) for name in outputs],
        [numpy_helper.from_array(w.astype(np.float32), name) for name, w in weights.items()],
    )
    opset = helper.make_opsetid("", 17)
    model: onnx.ModelProto = helper.make_model(graph, opset_imports=[opset], ir_version=8)
    return bytes(model.SerializeToString())


def residual_model() -> bytes:
    random = np.random.default_rng(0)
    node = helper.make_node
    nodes = [
        node("MatMul", ["x", "w1"], ["m1"]),
        node("Add", ["m1", "b1"], ["a1"]),
        node("Relu", ["a1"], ["r1"]),
        node("MatMul", ["r1", "w2"], ["m2"]),
        node("Add", ["m2", "x"], ["sum"]),
        node("Sigmoid", ["sum"], ["y"]),
    ]
    weights = {
        "w1": random.standard_normal((8, 16)),
        "b1": random.standard_normal(16),
        "w2": random.standard_normal((16, 8)),
    }
    return model_of(nodes, {"x": ["N", 8]}, ["y"], weights)


def picture_model() -> bytes:
    random = np.random.default_rng(0)
    node = helper.make_node
    pads: dict[str, Any] = {"pads": [1, 1, 1, 1]}
    nodes = [
        node("Conv", ["x", "w1"], ["c1"], **pads),
        node("Relu", ["c1"], ["r1"]),
        node("MaxPool", ["r1"], ["p1"], kernel_shape=[2, 2], strides=[2, 2]),
        node("Conv", ["p1", "w2"], ["c2"], **pads),
        node("Concat", ["p1", "c2"], ["cat"], axis=1),
        node("Conv", ["cat", "w3"], ["y"]),
    ]
    weights = {
        "w1": random.standard_normal((4, 3, 3, 3)),
        "w2": random.standard_normal((5, 4, 3, 3)),
        "w3": random.standard_normal((2, 9, 1, 1)),
    }
    return model_of(nodes, {"x": ["N", 3, 8, 8]}, ["y"], weights)


def samples_of(count: int, seed: int = 5) -> Array:
    return np.random.default_rng(seed).standard_normal((count, 8)).astype(np.float32)


@pytest.fixture(scope="module")
def residual() -> bytes:
    return residual_model()


def test_default_tensors(residual: bytes) -> None:
    calibration = planck.calibrate(residual, [{"x": samples_of(40)}])
    assert calibration.names == ("x", "m1", "r1", "m2")
    assert (calibration.samples, calibration.batches) == (40, 1)
    assert calibration.bytes_read == 40 * 8 * 4
    pictures = planck.calibrate(picture_model(), [{"x": np.ones((1, 3, 8, 8), np.float32)}])
    assert pictures.names == ("x", "c1", "r1", "p1", "c2", "cat", "y")
    groups = {row.grid.name: row.group for row in pictures.table("minmax")}
    assert groups["r1"] == groups["p1"] == groups["c2"] == groups["cat"] >= 0
    assert groups["x"] == groups["c1"] == groups["y"] == -1


def test_constants_do_not_part_a_group() -> None:
    """A class token before the patches."""
    nodes = [
        helper.make_node("Concat", ["token", "x"], ["cat"], axis=0),
        helper.make_node("MatMul", ["cat", "w"], ["y"]),
    ]
    weights = {"token": np.ones((1, 8)), "w": np.ones((8, 4))}
    calibration = planck.calibrate(
        model_of(nodes, {"x": ["N", 8]}, ["y"], weights), [{"x": samples_of(40)}]
    )
    assert [(r.grid.name, r.group) for r in calibration.table()] == [
        ("x", 0),
        ("cat", 0),
        ("y", -1),
    ]


def test_groups_share_one_grid() -> None:
    random = np.random.default_rng(4)
    feeds = [{"x": random.standard_normal((2, 3, 8, 8)).astype(np.float32)} for _ in range(20)]
    calibration = planck.calibrate(picture_model(), feeds)
    scales = calibration.solve("mse")
    assert scales["r1"].scale == scales["p1"].scale == scales["c2"].scale == scales["cat"].scale
    apart = calibration.solve("mse", shared_ranges="off")
    assert len({float(apart[name].scale[0]) for name in ("r1", "p1", "c2", "cat")}) > 1


def test_statistics_are_those_of_the_tensors(residual: bytes) -> None:
    x = samples_of(64)
    calibration = planck.calibrate(residual, [{"x": x}], tensors="all")
    assert calibration.names == ("x", "m1", "a1", "r1", "m2", "sum", "y")
    taps = planck.build(residual).taps({"x": x})
    for name in calibration.names:
        tensor = x if name == "x" else taps[name]
        h = calibration.histogram(name)
        assert h["count"] == tensor.size
        assert (h["min"], h["max"]) == pytest.approx((tensor.min(), tensor.max()), rel=1e-6)
        assert h["zeros"] == int((tensor == 0).sum())
        assert h["neg"].sum() + h["pos"].sum() + h["zeros"] == tensor.size
    largest = np.abs(taps["r1"]).max(0)
    assert calibration.channel_absmax("r1") == pytest.approx(largest, rel=1e-6)
    with pytest.raises(planck.CalibrationError, match="'a1' has no ranges of channels"):
        calibration.channel_absmax("a1")


def test_channels_of_convolutions() -> None:
    x = np.random.default_rng(4).standard_normal((3, 3, 8, 8)).astype(np.float32)
    calibration = planck.calibrate(picture_model(), [{"x": x}], per_channel=["x"])
    assert np.array_equal(calibration.channel_absmax("x"), np.abs(x).max((0, 2, 3)))


@pytest.mark.parametrize("shards", [1, 2, 7, 64])
def test_partitions_give_the_same_bytes(residual: bytes, shards: int) -> None:
    x = samples_of(128)
    whole = planck.calibrate(residual, [{"x": x}])
    random = np.random.default_rng(shards)
    cuts = np.sort(random.choice(np.arange(1, 128), shards - 1, replace=False))
    parts = []
    for part in np.split(x, cuts):
        size = int(random.integers(1, 9))
        batches = [{"x": part[i : i + size]} for i in range(0, len(part), size)]
        threads = int(random.integers(1, 9))
        parts.append(planck.calibrate(residual, batches, threads=threads))
    while len(parts) > 1:  # a tree, in any order
        random.shuffle(parts)
        parts.append(parts.pop().merge(parts.pop()))
    merged = parts[0]
    assert merged.samples == whole.samples == 128
    assert merged.solve("entropy") == whole.solve("entropy")
    for name in whole.names:
        for key, value in whole.histogram(name).items():
            assert np.array_equal(merged.histogram(name)[key], value), (name, key)
    if whole.batches == merged.batches:
        assert merged == whole


def test_one_by_one(residual: bytes) -> None:
    x = samples_of(33)
    singles = planck.calibrate(residual, [{"x": x}], one_by_one=True)
    assert (singles.samples, singles.batches) == (33, 33)
    rows = planck.calibrate(residual, [{"x": x[i : i + 1]} for i in range(33)])
    assert singles == rows


class Reader:
    def __init__(self, x: Array) -> None:
        self._x = x
        self._at = 0

    def get_next(self) -> dict[str, Array] | None:
        self._at += 4
        batch = self._x[self._at - 4 : self._at]
        return {"x": batch} if len(batch) else None

    def rewind(self) -> None:
        self._at = 0


def generator(x: Array) -> Iterator[dict[str, Array]]:
    for i in range(0, len(x), 4):
        yield {"x": x[i : i + 4]}


def test_forms_of_data(residual: bytes, tmp_path: Path) -> None:
    x = samples_of(32)
    np.savez(tmp_path / "data.npz", x=x)
    reader = Reader(x)
    forms: list[tuple[Any, int]] = [
        (list(generator(x)), 8),
        (generator(x), 8),
        (lambda: generator(x), 8),
        (Reader(x).get_next, 8),
        (reader, 8),
        ([(part,) for part in np.split(x, 8)], 8),
        (np.split(x, 8), 8),
        ({"x": x}, 1),
        (tmp_path / "data.npz", 2),
    ]
    results = []
    for form, batches in forms:
        calibration = planck.calibrate(residual, form)
        assert (calibration.batches, calibration.samples) == (batches, 32)
        assert calibration.bytes_read == x.nbytes
        results.append(calibration.solve("minmax"))
    assert all(result == results[0] for result in results)


def test_torch_data_loader(residual: bytes) -> None:
    torch = pytest.importorskip("torch")
    x = samples_of(32)
    loader = torch.utils.data.DataLoader(torch.from_numpy(x), batch_size=4)
    assert planck.calibrate(residual, loader).batches == 8


def test_exact_reads_twice(residual: bytes) -> None:
    x = samples_of(64)
    for form in (list(generator(x)), lambda: generator(x), Reader(x)):
        calibration = planck.calibrate(residual, form, "entropy", exact=True)
        assert calibration.samples == 64  # the second pass counts nothing twice
        again = Calibration.from_bytes(calibration.to_bytes())
        assert again.solve() == calibration.solve()
    with pytest.raises(planck.UsageError, match="can be read only once"):
        planck.calibrate(residual, generator(x), "entropy", exact=True)


def test_exact_shards_need_one_range(residual: bytes) -> None:
    one, other = ([{"x": samples_of(32, seed)}] for seed in (1, 2))
    first = planck.calibrate(residual, one, exact=True)
    with pytest.raises(planck.CalibrationError, match="ranges differ: tensor 'x' reaches"):
        first.merge(planck.calibrate(residual, other, exact=True))
    assert first.merge(planck.calibrate(residual, one, exact=True)).samples == 64


def test_progress_and_cancel(residual: bytes) -> None:
    seen: list[tuple[str, float]] = []

    def stop_at_three(stage: str, done: float) -> bool:
        seen.append((stage, done))
        return len(seen) < 3

    with pytest.raises(planck.CancelledError):
        planck.calibrate(residual, list(generator(samples_of(32))), progress=stop_at_three)
    assert seen == [("batch 1", 1 / 8), ("batch 2", 2 / 8), ("batch 3", 3 / 8)]


def refuse(
    model: bytes, says: str, error: type[Exception], data: Any = None, **options: Any
) -> None:
    feeds = [{"x": samples_of(4)}] if data is None else data
    with pytest.raises(error, match=says):
        planck.calibrate(model, feeds, **options)


def test_bad_calls(residual: bytes) -> None:
    usage = planck.UsageError
    refuse(residual, "method is 'kl'; expected one of auto, entropy", usage, method="kl")
    refuse(residual, "percentile is 0; expected more than 0", usage, percentile=0.0)
    refuse(residual, "percentile is 101", usage, percentile=101.0)
    refuse(residual, "zero_policy is 'drop'", usage, zero_policy="drop")
    refuse(residual, "nonfinite is 'skip'", usage, nonfinite="skip")
    refuse(residual, "no tensor 'm11'; nearest: m1", usage, tensors=["m11"])
    refuse(residual, "tensors is 'm1'; expected 'all' or a list", usage, tensors="m1")
    refuse(residual, "per_channel: the model computes no tensor 'q'", usage, per_channel=["q"])
    refuse(residual, "threads is 0", usage, threads=0)
    refuse(residual, "data is int; expected an iterable", usage, data=7)
    refuse(residual, r"data is 'a.txt'; expected the path of an .npz", usage, data="a.txt")


def test_bad_data(residual: bytes) -> None:
    x = samples_of(4)
    good = {"x": x}
    feed = planck.FeedError
    refuse(residual, "the data gave no batch", planck.CalibrationError, data=[])
    refuse(residual, "'x' is missing[^$]*in batch 1", feed, data=[good, {}])
    refuse(residual, "no input 'z'[^$]*in batch 0", feed, data=[{"x": x, "z": x}])
    refuse(residual, "'x'[^$]*in batch 1", feed, data=[good, {"x": x.astype(np.int64)}])
    refuse(residual, "'x'[^$]*in batch 0", feed, data=[{"x": x[:, :3]}])
    refuse(residual, "batch 0 of the calibration data is str", feed, data=["x"])
    refuse(residual, "batch 0 of the calibration data is tuple of 2", feed, data=[(x, x)])


def test_nan_is_an_error_or_counted(residual: bytes) -> None:
    x = samples_of(40)
    bad = x.copy()
    bad[1, 2] = np.nan
    bad[3, 4] = np.inf
    with pytest.raises(planck.CalibrationError, match=r"tensor 'x' holds 2 NaN.* in batch 1"):
        planck.calibrate(residual, [{"x": x}, {"x": bad}], tensors=["x"])
    ignored = planck.calibrate(residual, [{"x": bad}], tensors=["x"], nonfinite="ignore")
    assert ignored.histogram("x")["nonfinite"] == 2
    assert ignored.table("minmax")[0].count == 40 * 8 - 2
    assert "'x' held 2 NaN" in "\n".join(ignored.solve().notes)


def test_integer_tensors_are_listed() -> None:
    node = helper.make_node
    nodes = [node("Cast", ["x"], ["i"], to=TensorProto.INT64), node("Cast", ["i"], ["y"], to=1)]
    model = model_of(nodes, {"x": ["N", 8]}, ["y"], {})
    everything = planck.calibrate(model, [{"x": samples_of(40)}], tensors="all")
    assert (everything.names, everything.skipped) == (("x", "y"), ("i",))
    chosen = planck.calibrate(model, [{"x": samples_of(40)}], tensors=["x", "i"])
    assert (chosen.names, chosen.skipped) == (("x",), ("i",))


def test_few_samples_are_noted(residual: bytes, caplog: pytest.LogCaptureFixture) -> None:
    calibration = planck.calibrate(residual, [{"x": samples_of(31)}])
    with caplog.at_level(logging.WARNING, "planck"):
        assert "only 31 samples" in calibration.solve().notes[0]
    assert "only 31 samples" in caplog.text
    assert not planck.calibrate(residual, [{"x": samples_of(32)}]).solve("minmax").notes


def test_merge_names_the_difference(residual: bytes) -> None:
    feeds = [{"x": samples_of(4)}]
    one = planck.calibrate(residual, feeds)
    cases: list[tuple[Callable[[], Calibration], str]] = [
        (
            lambda: planck.calibrate(residual, feeds, "entropy"),
            "method is auto here, entropy there",
        ),
        (
            lambda: planck.calibrate(residual, feeds, percentile=99.0),
            "percentile is 99.99 here, 99",
        ),
        (lambda: planck.calibrate(residual, feeds, zero_policy="keep"), "zero_policy is skip here"),
        (
            lambda: planck.calibrate(residual, feeds, per_channel=False),
            "per_channel of 'x' is 1 here, 0 there",
        ),
        (
            lambda: planck.calibrate(residual, feeds, tensors=["m1"]),
            "number of tensors is 4 here, 1",
        ),
        (
            lambda: planck.calibrate(picture_model(), [{"x": np.ones((1, 3, 8, 8), np.float32)}]),
            "hash",
        ),
    ]
    before = one.to_bytes()
    for make, says in cases:
        with pytest.raises(planck.CalibrationError, match=says):
            one.merge(make())
    assert one.to_bytes() == before


def test_file(residual: bytes, tmp_path: Path) -> None:
    calibration = planck.calibrate(residual, [{"x": samples_of(64)}])
    path = tmp_path / "model.calib"
    path.write_bytes(b"before")
    calibration.save(path)
    assert os.listdir(tmp_path) == ["model.calib"]  # nothing temporary stays
    again = Calibration.load(path)
    assert again == calibration
    assert again.engine == planck.__version__
    assert again.solve() == calibration.solve()
    assert pickle.loads(pickle.dumps(calibration)) == calibration
    both = Calibration.from_bytes(calibration.merge(again).to_bytes())
    assert both == again.merge(calibration) and both.samples == 128
    data = path.read_bytes()
    for at in (0, 9, 20, 100, len(data) // 2, len(data) - 1):
        damaged = bytearray(data)
        damaged[at] ^= 4
        with pytest.raises((planck.CorruptError, planck.VersionError)):
            Calibration.from_bytes(bytes(damaged))
        with pytest.raises(planck.CorruptError):
            Calibration.from_bytes(data[:at])
    newer = bytearray(data)
    newer[8] = 2
    with pytest.raises(planck.VersionError, match="format 2; this Planck reads 1"):
        Calibration.from_bytes(bytes(newer))
    with pytest.raises(planck.FileError):
        Calibration.load(tmp_path / "none")
    with pytest.raises(planck.FileError):
        calibration.save(tmp_path / "no folder" / "file")


def test_report_shows_what_was_read(residual: bytes) -> None:
    calibration = planck.calibrate(residual, [{"x": samples_of(8)}], "percentile", percentile=90.0)
    text = calibration.report()
    assert "8 samples in 1 batches, 256 bytes read; 4 tensors, 0 skipped; method percentile" in text
    assert "note: only 8 samples" in text and "note: tensor 'x' loses" in text
    rows = calibration.table()
    assert rows[0].clipped == pytest.approx(0.1, abs=0.02)


def test_external_weights(tmp_path: Path) -> None:
    model = onnx.load(io.BytesIO(residual_model()))
    onnx.save(
        model, tmp_path / "m.onnx", save_as_external_data=True, location="w.bin", size_threshold=0
    )
    feeds = [{"x": samples_of(40)}]
    inside = planck.calibrate(residual_model(), feeds).solve("minmax")
    beside = planck.calibrate(tmp_path / "m.onnx", feeds).solve("minmax")
    assert [inside[n] for n in inside] == [beside[n] for n in beside]


def test_transformer(model_path: Callable[..., Path]) -> None:
    import planck.models

    feeds = [planck.models.feeds("bert_encoder", (2, n), seed=n, size="mini") for n in (5, 9, 17)]
    calibration = planck.calibrate(model_path("bert_encoder"), feeds)
    assert calibration.batches == 3  # lengths differ from batch to batch
    scales = calibration.solve()
    assert len(scales) == len(calibration.names) > 20
    assert all(np.isfinite(t.scale[0]) for t in scales.values())


def test_unknown_extra_output(residual: bytes) -> None:
    with pytest.raises(planck.UsageError, match="no tensor 'm3'; nearest: m1, m2"):
        _core.build_bytes(residual, {"extra_outputs": ["m3"]}, 1)
    plan = planck.Plan(_core.build_bytes(residual, {"extra_outputs": ["sum", "y", "x"]}, 1))
    assert [port.name for port in plan.outputs] == ["y", "sum", "x"]
    x = samples_of(4)
    out = plan.run({"x": x})
    assert np.array_equal(out["x"], x)
    assert np.array_equal(out["y"], planck.build(residual).run({"x": x})["y"])


def test_notebooks_show_a_row_for_each_tensor() -> None:
    text = observed(np.linspace(-1, 1, 100, dtype=np.float32))._repr_html_()
    assert text.count("<tr>") == 2 and "SQNR dB" in text and "<script" not in text

"""Convolutions, pools and what surrounds them, built and run beside ONNX Runtime."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import planck

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from tests.conftest import relative_gap  # noqa: E402


class Chain:
    """A model that is written node after node; each reads what the one before it gave."""

    def __init__(self, *shape: int | str) -> None:
        self.random = np.random.default_rng(5)
        self.inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)]
        self.nodes: list[Any] = []
        self.weights: list[Any] = []
        self.last = "x"

    def add(self, op: str, *inputs: str, **attributes: Any) -> Chain:
        name = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name], **attributes))
        self.last = name
        return self

    def then(self, op: str, *more: str, **attributes: Any) -> Chain:
        return self.add(op, self.last, *more, **attributes)

    def weight(self, value: Any) -> str:
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(value, np.float32), name))
        return name

    def normal(self, *shape: int, scale: float = 0.1) -> str:
        return self.weight(self.random.normal(scale=scale, size=shape))

    def conv(self, *shape: int, **attributes: Any) -> Chain:
        return self.then("Conv", self.normal(*shape), self.normal(shape[0]), **attributes)

    def up(self, *shape: int, **attributes: Any) -> Chain:
        """A transposed convolution whose windows lie side by side; shape is that of its weights."""
        more = {"strides": list(shape[2:])} | attributes
        return self.then("ConvTranspose", self.normal(*shape), self.normal(shape[1]), **more)

    def resize(self, *scales: float, **attributes: Any) -> Chain:
        return self.then("Resize", "", self.weight(scales), **attributes)

    def batch_norm(self, channels: int) -> Chain:
        positive = [self.weight(self.random.uniform(0.5, 2, channels)) for _ in range(2)]
        shift = [self.normal(channels) for _ in range(2)]
        return self.then("BatchNormalization", positive[0], shift[0], shift[1], positive[1])

    def hard_swish(self) -> Chain:
        x = self.last
        self.then("Add", self.weight(3)).then("Clip", self.weight(0), self.weight(6))
        return self.add("Mul", x, self.last).then("Div", self.weight(6))

    def bytes(self) -> bytes:
        output = helper.make_tensor_value_info(self.last, TensorProto.FLOAT, None)
        graph = helper.make_graph(self.nodes, "chain", self.inputs, [output], self.weights)
        imports = [helper.make_opsetid("", 17)]
        model = helper.make_model(graph, opset_imports=imports, ir_version=9)
        return bytes(model.SerializeToString())


@dataclass
class Case:
    name: str
    chain: Chain
    shapes: list[tuple[int, ...]]
    kernels: dict[str, int] = field(default_factory=dict)  # families, by the start of their names


def residual_block() -> Chain:
    c = Chain("N", 16, "H", "W").conv(16, 16, 1, 1).then("Relu")
    kept = c.last
    c.conv(16, 16, 3, 3, pads=[1] * 4).batch_norm(16)
    return c.add("Add", c.last, kept).then("Relu")


def squeeze() -> Chain:
    c = Chain("N", 8, "H", "W").conv(24, 8, 1, 1).hard_swish()
    x = c.last
    c.then("GlobalAveragePool").conv(6, 24, 1, 1).then("Relu").conv(24, 6, 1, 1)
    return c.then("HardSigmoid", alpha=0.2, beta=0.5).add("Mul", x, c.last)


def joined() -> Chain:
    c = Chain("N", 4, "H", "W").conv(6, 4, 1, 1)
    first = c.last
    c.conv(5, 6, 3, 3, pads=[1] * 4)
    c.nodes.append(helper.make_node("Concat", [first, c.last], ["joined"], axis=1))
    c.last = "joined"
    return c.conv(7, 11, 1, 1)


def sequence() -> Chain:
    """[N,T,C] through a convolution over T and back, as speech models have it."""
    c = Chain("N", "T", 20).then("Transpose", perm=[0, 2, 1]).conv(40, 20, 1)
    return c.conv(40, 1, 15, pads=[7, 7], group=40).then("Transpose", perm=[0, 2, 1])


def pyramid() -> Chain:
    """Two scales of one picture, joined, as detectors have it."""
    c = Chain("N", 6, "H", "W").conv(8, 6, 1, 1)
    fine = c.last
    c.conv(8, 8, 3, 3, strides=[2, 2], pads=[1, 1, 0, 0])
    c.resize(1, 1, 2, 2, coordinate_transformation_mode="asymmetric", nearest_mode="floor")
    c.add("Add", fine, c.last)
    return c.conv(4, 8, 1, 1)


def joined_scales(kernel: int = 1) -> Chain:
    """The coarse scale beside the fine one, along the channels."""
    c = Chain("N", 6, "H", "W").conv(8, 6, 1, 1)
    fine = c.last
    c.conv(24, 8, 2, 2, strides=[2, 2])
    c.resize(1, 1, 2, 2, coordinate_transformation_mode="asymmetric", nearest_mode="floor")
    c.add("Concat", fine, c.last, axis=1)
    return c.conv(4, 32, kernel, kernel, pads=[kernel // 2] * 4)


def gate(c: Chain, x: str, channels: int, axes: int = 2) -> str:
    """One number for each image and channel, made of the means of x."""
    ones = [1] * axes
    c.add("GlobalAveragePool", x).conv(4, channels, *ones).then("Relu").conv(channels, 4, *ones)
    return c.then("HardSigmoid", alpha=0.2, beta=0.5).last


def gated_scales(*up: int) -> Chain:
    """c + c * gate + a coarser scale, where c has more channels than what it is made of."""
    ones = [1] * len(up)
    c = Chain("N", 6, *"HW"[: len(up)]).conv(4, 6, *ones)
    narrow = c.last
    coarse = c.conv(10, 4, *up, strides=list(up)).then("Relu").last
    x = c.add("Conv", narrow, c.normal(10, 4, *ones), c.normal(10)).last
    gated = c.add("Mul", x, gate(c, x, 10, len(up))).last
    kept = c.add("Add", gated, x).last
    c.add("Resize", coarse, "", c.weight([1, 1, *up]), coordinate_transformation_mode="asymmetric")
    c.nodes[-1].attribute.append(helper.make_attribute("nearest_mode", "floor"))
    return c.add("Add", kept, c.last).conv(3, 10, *ones).then("Sigmoid")


def gated_places() -> Chain:
    """relu(c) * gate * a number for each place + another picture."""
    c = Chain("N", 6, "H", "W").conv(8, 6, 3, 3, pads=[1] * 4).then("Relu")
    x = c.last
    channel = gate(c, x, 8)
    place = c.add("Conv", x, c.normal(1, 8, 3, 3), pads=[1] * 4).then("Sigmoid").last
    whole = c.add("Conv", x, c.normal(20, 8, 3, 3), pads=[1] * 4).then("Relu").last
    c.add("Add", place, channel).conv(20, 8, 1, 1).then("Sigmoid")
    many = c.last
    c.add("Conv", x, c.normal(20, 8, 1, 1), c.normal(20)).then("Relu")
    return c.then("Mul", many).then("Mul", place).then("Add", whole).then("Mul", c.weight(0.5))


def repeated_channels() -> Chain:
    """A Resize of the channels is no operand of a product, which has them side by side."""
    c = Chain("N", 6, "H", "W").conv(4, 6, 1, 1)
    few = c.then("Relu").last
    c.resize(1, 3, 1, 1, coordinate_transformation_mode="asymmetric", nearest_mode="floor")
    many = c.last
    return c.add("Conv", few, c.normal(12, 4, 1, 1)).then("Mul", many)


def gated_twice() -> Chain:
    """Two chains read the convolution, so that it lies in memory."""
    c = Chain("N", 6, "H", "W").conv(8, 6, 1, 1)
    x = c.last
    gated = c.add("Mul", x, gate(c, x, 8)).last
    c.add("Mul", x, c.add("Sigmoid", x).last)
    return c.add("Concat", gated, c.last, axis=1)


STEM = Chain("N", 3, "H", "W").conv(16, 3, 7, 7, pads=[3] * 4, strides=[2, 2]).batch_norm(16)
STEM.then("Relu").then("MaxPool", kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
SCALED = Chain("N", 5, "H", "W").conv(9, 5, 3, 3).hard_swish()
SCALED.then("Mul", SCALED.weight(0.7)).then("Add", SCALED.weight(-0.2))


def overlapping() -> dict[str, Chain]:
    """Transposed convolutions whose windows overlap, leave gaps or are cut."""
    spelled: dict[str, tuple[tuple[int, ...], dict[str, Any]]] = {
        "overlapping": ((4, 4), {"strides": [2, 2], "pads": [1, 1, 1, 1]}),
        "odd": ((3, 3), {"strides": [2, 2], "pads": [1, 1, 1, 1], "output_padding": [1, 1]}),
        "in place": ((3, 3), {"strides": [1, 1], "pads": [1, 1, 1, 1]}),
        "dilated": ((3, 2), {"strides": [2, 1], "dilations": [2, 3]}),
        "with gaps": ((1, 2), {"strides": [2, 3]}),
        "same": ((3, 3), {"strides": [2, 2], "auto_pad": "SAME_UPPER"}),
        "cut": ((5, 4), {"strides": [2, 3], "pads": [3, 2, 1, 0]}),
        "side by side, cut": ((2, 2), {"strides": [2, 2], "pads": [1, 0, 0, 1]}),
    }
    return {
        name: Chain("N", 6, "H", "W").up(6, 5, *kernel, **attributes)
        for name, (kernel, attributes) in spelled.items()
    }


CASES = [
    Case("stem", STEM, [(1, 3, 40, 37), (2, 3, 9, 9)], {"matmul": 1, "channelwise": 1}),
    Case("scaled tail", SCALED, [(2, 5, 8, 9)], {"matmul": 1}),
    Case("residual", residual_block(), [(1, 16, 14, 13), (3, 16, 1, 2)], {"matmul": 2}),
    Case("squeeze and excite", squeeze(), [(2, 8, 10, 7)], {"matmul": 3, "reduce": 1}),
    Case("concat", joined(), [(2, 4, 6, 7)], {"matmul": 3}),
    Case("sequence", sequence(), [(2, 50, 20), (1, 3, 20)], {"matmul": 1, "channelwise": 1}),
    Case(
        "strided, dilated",
        Chain("N", 8, "H", "W").conv(16, 8, 3, 5, dilations=[2, 1], strides=[1, 2], pads=[2] * 4),
        [(2, 8, 10, 12)],
    ),
    Case(
        "depthwise",
        Chain("N", 30, "H", "W").conv(30, 1, 5, 5, group=30, pads=[2] * 4, strides=[2, 2]),
        [(2, 30, 9, 9)],
        {"channelwise": 1},
    ),
    Case(
        "groups",
        Chain("N", 12, "H", "W").conv(18, 4, 3, 3, group=3, pads=[1] * 4).then("Relu"),
        [(2, 12, 9, 8)],
        {"matmul": 3},
    ),
    Case(
        "average",
        Chain("N", 6, "H", "W").then(
            "AveragePool", kernel_shape=[3, 2], strides=[2, 2], pads=[1, 1, 0, 0]
        ),
        [(2, 6, 9, 8)],
        {"channelwise": 1},
    ),
    Case(
        "average over padding",
        Chain("N", 6, "H", "W").then(
            "AveragePool", kernel_shape=[3, 3], pads=[1] * 4, count_include_pad=1
        ),
        [(2, 6, 9, 8)],
        {"channelwise": 1},
    ),
    Case(
        "same",
        Chain(2, 6, 9, 8)
        .conv(4, 6, 3, 3, auto_pad="SAME_UPPER", strides=[2, 2])
        .then("MaxPool", kernel_shape=[2, 2], auto_pad="SAME_LOWER"),
        [(2, 6, 9, 8)],
        {"matmul": 1, "channelwise": 1},
    ),
    Case(
        "up",
        Chain("N", 12, "H", "W")
        .conv(8, 12, 3, 3)
        .then("Relu")
        .up(8, 5, 2, 2)
        .batch_norm(5)
        .then("Relu")
        .up(5, 1, 2, 2)
        .then("Sigmoid"),
        [(1, 12, 8, 7), (2, 12, 3, 4)],
        {"matmul": 3, "copy": 2},
    ),
    Case("up, one axis", Chain("N", 6, "T").up(6, 4, 3), [(2, 6, 5)], {"matmul": 1}),
    Case("up, not square", Chain("N", 6, "H", "W").up(6, 4, 3, 1), [(2, 6, 5, 4)], {"matmul": 1}),
    Case(
        "several outputs for each channel",
        Chain("N", 12, "H", "W").conv(36, 1, 3, 3, group=12, pads=[1] * 4).then("Relu"),
        [(2, 12, 9, 8)],
        {"channelwise": 1},
    ),
    *[
        Case(
            f"up, {name}",
            c.then("Relu").conv(7, 5, 3, 3, pads=[1] * 4),
            [(2, 6, 5, 4), (1, 6, 1, 9)],
            {"matmul": 2},
        )
        for name, c in overlapping().items()
    ],
    Case(
        "up, overlapping, one axis",
        Chain("N", 6, "T").up(6, 4, 5, strides=[3], pads=[2, 1], output_padding=[1]),
        [(2, 6, 5), (1, 6, 1)],
        {"matmul": 1},
    ),
    Case(
        "up, shaped",
        Chain("N", 6, 5, 4).up(6, 4, 4, 4, strides=[2, 2], output_shape=[11, 9]),
        [(2, 6, 5, 4)],
        {"matmul": 1},
    ),
    Case(
        "up, in lines",
        Chain("N", 6, "H", "W").conv(9, 6, 1, 1).up(9, 10, 2, 2).then("Relu").conv(3, 10, 1, 1),
        [(1, 6, 5, 4), (2, 6, 1, 3), (2, 6, 3, 1)],
        {"matmul": 4, "copy": 2},
    ),
    *[
        Case(
            f"up, in lines of {panels} panels",
            Chain("N", 6, "H", "W").conv(9, 6, 1, 1).up(9, 8 * panels, 2, 2).then("Sigmoid"),
            [(1, 6, 5, 4), (2, 6, 1, 3), (2, 6, 3, 1), (1, 6, 3, 130)],
            {"matmul": 2, "copy": 2},
        )
        for panels in [1, 3]
    ],
    Case("up, in one line", Chain("N", 6, "T").up(6, 8, 3), [(2, 6, 5)], {"matmul": 1, "copy": 2}),
    Case(
        "pyramid",
        pyramid(),
        [(1, 6, 8, 6), (2, 6, 4, 2)],
        {"matmul": 3, "eltwise": 1, "copy": 2},
    ),
    Case(
        "gated scales",
        gated_scales(2, 2),
        [(1, 6, 8, 6), (2, 6, 4, 2), (6, 6, 2, 4), (1, 6, 2, 60)],
        {"matmul": 7, "eltwise": 0},
    ),
    Case(
        "gated scales, not square",
        gated_scales(1, 3),
        [(1, 6, 5, 6), (3, 6, 1, 3)],
        {"matmul": 7, "eltwise": 0},
    ),
    Case(
        "gated scales, one axis",
        gated_scales(3),
        [(1, 6, 9), (2, 6, 3)],
        {"matmul": 7, "eltwise": 0},
    ),
    Case(
        "gated places",
        gated_places(),
        [(1, 6, 7, 5), (2, 6, 8, 6), (6, 6, 1, 1)],
        {"matmul": 7, "eltwise": 1},
    ),
    Case("repeated channels", repeated_channels(), [(2, 6, 5, 4)], {"matmul": 2, "eltwise": 1}),
    Case("gated twice", gated_twice(), [(2, 6, 5, 4)], {"matmul": 4, "eltwise": 2}),
    Case(
        "joined scales",
        joined_scales(),
        [(1, 6, 8, 6), (2, 6, 2, 2)],
        {"matmul": 3, "copy": 4},
    ),
    Case(
        "joined scales under wide windows",
        joined_scales(3),
        [(1, 6, 8, 6), (2, 6, 2, 2), (1, 6, 24, 20)],
        {"matmul": 3, "copy": 2},
    ),
    *[
        Case(
            f"resize {mode}",
            Chain("N", 7, "H", "W").conv(20, 7, 1, 1).resize(1, 1, 1.5, 0.75, mode=mode),
            [(2, 7, 8, 8), (1, 7, 3, 4)],
            {"matmul": 1, "resample": 1},
        )
        for mode in ["nearest", "linear", "cubic"]
    ],
    Case("global maximum", Chain("N", 6, "H", "W").then("GlobalMaxPool"), [(2, 6, 5, 7)]),
]


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_windows_agree_with_onnx_runtime(case):
    model = case.chain.bytes()
    plan = planck.build(model, fallback="error")
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    for shape in case.shapes:
        feeds = {"x": np.random.default_rng(1).normal(size=shape).astype(np.float32)}
        (got,) = plan.run(feeds).values()
        assert relative_gap(got, session.run(None, feeds)[0]) < 2e-5
    families = Counter(step.kernel.split("_")[0] for step in plan.steps)
    assert {name: families[name] for name in case.kernels} == case.kernels


@pytest.mark.parametrize(
    "chain", [pyramid(), gated_scales(2, 2), joined_scales(), joined_scales(3)]
)
@pytest.mark.parametrize("shape", [(1, 6, 7, 6), (1, 6, 8, 5), (2, 6, 9, 9)])
def test_scales_that_do_not_fit_are_refused(chain, shape):
    """Only the run knows that a resized picture is as large as the other one."""
    plan = planck.build(chain.bytes())
    with pytest.raises(planck.RunError):
        plan.run({"x": np.zeros(shape, np.float32)})


@pytest.mark.parametrize("chain", [gated_scales(2, 2), gated_places()], ids=["scales", "places"])
def test_gated_products_do_not_depend_on_threads_or_batch(chain):
    one, two = (planck.build(chain.bytes(), threads=n) for n in (1, 2))
    x = np.random.default_rng(3).normal(size=(3, 6, 48, 40)).astype(np.float32)
    (want,), (got,) = (plan.run({"x": x}).values() for plan in (one, two))
    assert np.array_equal(want, got)
    for i in range(3):
        (alone,) = two.run({"x": x[i : i + 1]}).values()
        assert np.array_equal(alone, want[i : i + 1])


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_windows_compare_and_load(case, tmp_path):
    """Every tensor of the file is there, and a plan on disk gives the same bits."""
    plan = planck.build(case.chain.bytes())
    feeds = {"x": np.random.default_rng(2).normal(size=case.shapes[0]).astype(np.float32)}
    rows = planck.compare(plan, reference="double", data=[feeds]).rows
    assert {row.name for row in rows} >= {n.output[0] for n in case.chain.nodes}
    assert not [row.name for row in rows if row.floating and row.cumulative.sqnr_db < 90]
    plan.save(tmp_path / "chain.plan")
    loaded = planck.load(tmp_path / "chain.plan")
    for name, value in plan.run(feeds).items():
        assert np.array_equal(loaded.run(feeds)[name], value)


NARROW = (
    Chain("N", 3, "H", "W")
    .conv(16, 3, 3, 3, strides=[2, 2], pads=[1, 1, 0, 1])
    .then("HardSwish")
    .conv(24, 16, 3, 3, pads=[0, 2, 1, 0])
    .conv(20, 24, 3, 3, pads=[1] * 4)
    .then("Relu")
)

RUN = """
import sys, numpy as np, planck
model, plan, out = sys.argv[1:]
made = planck.load(plan) if model == "-" else planck.build(model)
if model != "-":
    made.save(plan)
x = np.random.default_rng(3).normal(size=(2, 3, 22, 75)).astype(np.float32)
np.save(out, *made.run({"x": x}).values())
print(*[step.kernel for step in made.steps if step.family != "copy"])
"""


@pytest.mark.parametrize("row", ["16x24x1", "24x16x1"])
def test_pairs_of_outputs_give_the_same_bits(row: str, tmp_path: Path) -> None:
    """Also of a picture that lies in planes, which other kernels then take from such a plan."""
    model = NARROW.bytes()
    if planck.build(model).isa in ("portable", "avx2"):
        pytest.skip("this machine has no avx512")
    (tmp_path / "m.onnx").write_bytes(model)
    wanted = f"matmul_f32f32f32_{row}_avx512"
    forms = {
        "plain": ("m.onnx", {}),
        "pairs": ("m.onnx", {"PLANCK_FORCE_KERNEL": wanted}),
        "loaded": ("-", {}),
        "foreign": ("-", {"PLANCK_MAX_ISA": "avx2"}),
    }
    kernels, outs = {}, {}
    for name, (source, env) in forms.items():
        out = str(tmp_path / f"{name}.npy")
        done = subprocess.run(
            [sys.executable, "-c", RUN, source, str(tmp_path / "m.plan"), out],
            env={**os.environ, **env},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
        )
        kernels[name], outs[name] = done.stdout.split(), np.load(out)
    assert kernels["pairs"] == kernels["loaded"] == [wanted] * 3
    assert len(kernels["foreign"]) == 3
    assert all("avx2" in kernel for kernel in kernels["foreign"])
    for name, got in outs.items():
        np.testing.assert_array_equal(got, outs["plain"], err_msg=name)
    x = np.random.default_rng(3).normal(size=(2, 3, 22, 75)).astype(np.float32)
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    assert relative_gap(outs["pairs"], session.run(None, {"x": x})[0]) < 2e-5


def test_fast_convolutions_stay_within_the_promise():
    """fp32-fast: relative rms error of a convolution <= 1e-5; the plan says where it is less."""
    chain = Chain("N", 32, "H", "W").conv(48, 32, 3, 3, pads=[1] * 4).then("Relu")
    chain.conv(16, 48, 1, 1)
    model = chain.bytes()
    exact, fast = planck.build(model), planck.build(model, precision="fp32-fast")
    assert [step.given for step in fast.steps if step.op == "planck.Convolution"] == [
        "fp32-fast",
        "fp32",
    ]
    feeds = {"x": np.random.default_rng(4).normal(size=(2, 32, 21, 18)).astype(np.float32)}
    (want,), (got,) = exact.run(feeds).values(), fast.run(feeds).values()
    error = np.sqrt(np.mean((got - want) ** 2) / np.mean(want**2))
    assert 0 < error < 1e-5
    one_thread = planck.build(model, precision="fp32-fast", threads=1)
    assert np.array_equal(next(iter(one_thread.run(feeds).values())), got)


def test_resnet_is_convolutions_with_epilogues(model_path, reference):
    path = model_path("resnet50", "mini")
    plan = planck.build(path, fallback="error")
    assert not {"BatchNormalization", "Relu", "Add", "Mul"} & {step.op for step in plan.steps}
    feeds = planck.models.feeds("resnet50", (2, 64, 64), seed=3, size="mini")
    want = reference(path, feeds)
    got = plan.run(feeds)
    assert all(relative_gap(got[name], want[name]) < 2e-5 for name in want)

"""One transformer block, written as every opset has to write it, against ONNX Runtime."""

from __future__ import annotations

import math

import numpy as np
import pytest

import planck
from tests.conftest import relative_gap

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from tests.python.optimised import Builder, save  # noqa: E402

NEWEST = onnx.defs.onnx_opset_version()
OPSETS = sorted({7, 8, 9, 10, 11, 12, 13, 14, 15, 17, 18, 19, 20, 21, 23, 24, NEWEST})
HEADS, WIDTH, SIZE, PLACES = 4, 64, 16, 40
LIMIT = 1e-5
FLOAT = onnx.TensorProto.FLOAT


class Writer(Builder):
    """Spells what moved from attributes to inputs, and uses each op as soon as there is one."""

    def __init__(self, opset: int) -> None:
        super().__init__(seed=3)
        self.opset = opset

    def integers(self, *values: int) -> str:
        return self.constant(np.array(values, np.int64))

    def number(self, value: float) -> str:
        return self.constant(np.array(value, np.float32))

    def unsqueeze(self, x: str, *axes: int) -> str:
        if self.opset < 13:
            return self.node("Unsqueeze", x, axes=axes)
        return self.node("Unsqueeze", x, self.integers(*axes))

    def squeeze(self, x: str, *axes: int) -> str:
        if self.opset < 13:
            return self.node("Squeeze", x, axes=axes)
        return self.node("Squeeze", x, self.integers(*axes))

    def mean(self, x: str) -> str:
        if self.opset < 18:
            return self.node("ReduceMean", x, axes=[-1], keepdims=1)
        return self.node("ReduceMean", x, self.integers(-1), keepdims=1)

    def total(self, x: str, axis: int) -> str:
        if self.opset < 13:
            return self.node("ReduceSum", x, axes=[axis], keepdims=0)
        return self.node("ReduceSum", x, self.integers(axis), keepdims=0)

    def first_rows(self, table: str, places: str) -> str:
        """A row for each place. Before opset 10 a slice could not end where the run says."""
        if self.opset < 10:
            return self.node("Gather", table, places, axis=0)
        length = self.node("Shape", places)
        return self.node("Slice", table, self.integers(0), length, self.integers(0))

    def split3(self, x: str) -> list[str]:
        names = tuple(f"part{i}_{len(self._nodes)}" for i in range(3))
        if self.opset < 13:
            self.node("Split", x, outputs=names, axis=2, split=[WIDTH] * 3)
        elif self.opset < 18:
            self.node("Split", x, self.integers(*[WIDTH] * 3), outputs=names, axis=2)
        else:
            self.node("Split", x, outputs=names, axis=2, num_outputs=3)
        return list(names)

    def dropout(self, x: str) -> str:
        if self.opset < 12:
            return self.node("Dropout", x, ratio=0.1)
        return self.node("Dropout", x, self.number(0.1))

    def clip(self, x: str, low: float, high: float) -> str:
        if self.opset < 11:
            return self.node("Clip", x, min=low, max=high)
        return self.node("Clip", x, self.number(low), self.number(high))

    def softmax(self, x: str) -> str:
        return self.node("Softmax", x, axis=3 if self.opset < 11 else -1)

    def layer_norm(self, x: str) -> str:
        gain, bias = self.weight(WIDTH, around=1.0), self.weight(WIDTH)
        if self.opset >= 17:
            return self.node("LayerNormalization", x, gain, bias, epsilon=1e-6)
        centred = self.node("Sub", x, self.mean(x))
        variance = self.mean(self.node("Pow", centred, self.number(2.0)))
        root = self.node("Sqrt", self.node("Add", variance, self.number(1e-6)))
        scaled = self.node("Mul", self.node("Div", centred, root), gain)
        return self.node("Add", scaled, bias)

    def gelu(self, x: str) -> str:
        if self.opset >= 20:
            return self.node("Gelu", x)
        if self.opset >= 9:
            gate = self.node("Erf", self.node("Div", x, self.number(math.sqrt(2))))
        else:  # there was no Erf
            cube = self.node(
                "Mul", self.node("Mul", x, self.node("Mul", x, x)), self.number(0.044715)
            )
            inner = self.node("Mul", self.node("Add", x, cube), self.number(math.sqrt(2 / math.pi)))
            gate = self.node("Tanh", inner)
        product = self.node("Mul", x, self.node("Add", gate, self.number(1.0)))
        return self.node("Mul", product, self.number(0.5))

    def linear(self, x: str, columns: int, rows: int = WIDTH) -> str:
        product = self.node("MatMul", x, self.weight(rows, columns))
        return self.node("Add", product, self.weight(columns))

    def attention(self, x: str, mask: str) -> str:
        q, k, v = self.split3(self.linear(x, 3 * WIDTH))
        if self.opset >= 23:
            # ONNX Runtime wants a row of the mask for each query.
            rows = self.node(
                "Mul", self.node("Transpose", mask, perm=[0, 1, 3, 2]), self.number(0.0)
            )
            mask = self.node("Add", mask, rows)
            return self.node("Attention", q, k, v, mask, q_num_heads=HEADS, kv_num_heads=HEADS)
        q, k, v = (
            self.node("Transpose", self.node("Reshape", part, self.integers(0, 0, HEADS, SIZE)),
                      perm=perm)
            for part, perm in ((q, [0, 2, 1, 3]), (k, [0, 2, 3, 1]), (v, [0, 2, 1, 3]))
        )  # fmt: skip
        scores = self.node("Mul", self.node("MatMul", q, k), self.number(SIZE**-0.5))
        weights = self.dropout(self.softmax(self.node("Add", scores, mask)))
        rows = self.node("Transpose", self.node("MatMul", weights, v), perm=[0, 2, 1, 3])
        return self.node("Reshape", rows, self.integers(0, 0, WIDTH))


def block(opset: int) -> onnx.ModelProto:
    """Inputs x f32 [B,L,64], mask i64 [B,L], places i64 [L]; outputs y, vector, best."""
    w = Writer(opset)
    x = w.input("x", np.zeros((), np.float32), ["batch", "length", WIDTH])
    mask = w.input("mask", np.zeros((), np.int64), ["batch", "length"])
    places = w.input("places", np.zeros((), np.int64), ["length"])
    valid = w.clip(w.node("Cast", mask, to=FLOAT), 0.0, 1.0)
    added = w.node("Mul", w.node("Sub", w.number(1.0), valid), w.number(-1e4))
    x = w.node("Add", x, w.first_rows(w.weight(PLACES, WIDTH), places))
    context = w.linear(w.attention(x, w.unsqueeze(added, 1, 2)), WIDTH)
    x = w.layer_norm(w.node("Add", w.dropout(context), x))
    hidden = w.linear(w.gelu(w.linear(x, 4 * WIDTH)), WIDTH, 4 * WIDTH)
    y = w.layer_norm(w.node("Add", hidden, x))
    w.node("Identity", y, outputs=("y",))
    weighted = w.total(w.node("Mul", y, w.unsqueeze(valid, 2)), 1)
    w.node("Div", weighted, w.unsqueeze(w.total(valid, 1), 1), outputs=("vector",))
    first = w.squeeze(w.node("Gather", y, w.integers(0), axis=1), 1)
    w.node("ArgMax", first, axis=1, keepdims=0, outputs=("best",))
    kinds = {"y": FLOAT, "vector": FLOAT, "best": onnx.TensorProto.INT64}
    model = w.model(kinds, opset)
    model.ir_version = 4 if opset < 10 else 8 if opset < 23 else 10
    return model


@pytest.mark.parametrize("opset", OPSETS)
def test_block(opset, reference, tmp_path):
    model = block(opset)
    path = save(model, tmp_path / "block.onnx")
    plan = planck.build(path)
    assert plan.report["ops"]["planck.Attention"] == 1
    assert (
        plan.report["ops"].get("LayerNormalization", 0)
        + plan.report["ops"].get("planck.AddLayerNorm", 0)
        == 2
    )
    for batch, length in ((1, 1), (3, 11), (2, PLACES)):
        random = np.random.default_rng(batch * 100 + length)
        mask = (np.arange(length) < random.integers(1, length + 1, (batch, 1))).astype(np.int64)
        feeds = {
            "x": random.standard_normal((batch, length, WIDTH)).astype(np.float32),
            "mask": mask,
            "places": np.arange(length),
        }
        got = plan.run(feeds)
        want = reference(path, feeds)
        np.testing.assert_array_equal(got["best"], want["best"])
        for name in ("y", "vector"):
            assert relative_gap(got[name], want[name]) <= LIMIT, name

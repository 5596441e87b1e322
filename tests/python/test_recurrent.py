"""RNN, GRU and LSTM in every attribute that ONNX Runtime computes, as plans run them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import planck

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")
helper = onnx.helper

STEPS, BATCH, INPUT, HIDDEN = 6, 3, 4, 5
GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
OUTPUTS = ("y", "y_h", "y_c")
OPTIONS: dict[str, dict[str, Any]] = {
    "forward": {},
    "reverse": {"direction": "reverse"},
    "both": {"direction": "bidirectional"},
    "clip": {"clip": 0.5},
}
MORE: list[tuple[str, dict[str, Any]]] = [
    ("RNN", {"activations": ["Relu"]}),
    ("RNN", {"activations": ["LeakyRelu"], "activation_alpha": [0.3]}),
    ("GRU", {"linear_before_reset": 1}),
    ("GRU", {"linear_before_reset": 1, "direction": "bidirectional"}),
    ("GRU", {"activations": ["HardSigmoid", "Softsign"], "activation_alpha": [0.25]}),
    ("LSTM", {"activations": ["Sigmoid", "Elu", "ScaledTanh"], "activation_alpha": [0.9, 0.7],
              "activation_beta": [0.8]}),
]  # fmt: skip
ALL = [(op, options) for op in GATES for options in OPTIONS.values()] + MORE


def model(op: str, attributes: dict[str, Any], optional: bool) -> tuple[bytes, dict[str, Any]]:
    """A model of one node with `optional` inputs, and its feeds; batch and steps are symbols."""
    random = np.random.default_rng(3)
    sides = 2 if attributes.get("direction") == "bidirectional" else 1
    rows = GATES[op] * HIDDEN

    def normal(*shape: int) -> Any:
        return random.standard_normal(shape).astype(np.float32)

    weights = {"w": normal(sides, rows, INPUT), "r": normal(sides, rows, HIDDEN)}
    feeds = {"x": normal(STEPS, BATCH, INPUT)}
    names = ["x", "w", "r"]
    if optional:
        weights["b"] = normal(sides, 2 * rows)
        feeds["lengths"] = np.array([STEPS, 4, 1], np.int32)
        feeds["h"] = normal(sides, BATCH, HIDDEN)
        names += ["b", "lengths", "h"]
    if optional and op == "LSTM":
        feeds["c"] = normal(sides, BATCH, HIDDEN)
        weights["p"] = normal(sides, 3 * HIDDEN)
        names += ["c", "p"]
    outputs = OUTPUTS[: 3 if op == "LSTM" else 2]
    node = helper.make_node(op, names, outputs, "cell", hidden_size=HIDDEN, **attributes)
    dims = {"x": ["steps", "batch", INPUT], "lengths": ["batch"]}
    ports = [
        helper.make_tensor_value_info(
            name,
            helper.np_dtype_to_tensor_dtype(array.dtype),
            dims.get(name, [sides, "batch", HIDDEN]),
        )
        for name, array in feeds.items()
    ]
    results = [helper.make_tensor_value_info(name, 1, None) for name in outputs]
    constants = [onnx.numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = helper.make_graph([node], op, ports, results, constants)
    opsets = [helper.make_opsetid("", 14)]
    made = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    return made.SerializeToString(), feeds


@pytest.mark.parametrize("optional", [False, True])
@pytest.mark.parametrize(("op", "attributes"), ALL)
def test_agrees(op: str, attributes: dict[str, Any], optional: bool) -> None:
    data, feeds = model(op, attributes, optional)
    session = ort.InferenceSession(data, providers=["CPUExecutionProvider"])
    got = planck.build(data).run(feeds)
    for name, want in zip(got, session.run(list(got), feeds), strict=True):
        np.testing.assert_allclose(got[name], want, rtol=1e-4, atol=1e-5)


def test_the_plan_says_that_it_is_slow() -> None:
    data, _ = model("LSTM", {}, optional=False)
    assert "reference" in planck.build(data).explain()
    with pytest.raises(planck.UnsupportedError, match="LSTM"):
        planck.build(data, fallback="error")


def test_a_saved_plan_has_the_same_bits() -> None:
    data, feeds = model("GRU", {"direction": "bidirectional"}, optional=True)
    plan = planck.build(data)
    again = planck.load(plan.to_bytes()).run(feeds)
    for name, want in plan.run(feeds).items():
        assert again[name].tobytes() == want.tobytes()

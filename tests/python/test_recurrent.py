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


def layer(
    op: str,
    sizes: tuple[int, int, int],
    constant: bool = True,
    optional: tuple[str, ...] = ("b", "h", "c", "p"),
    outputs: tuple[str, ...] = OUTPUTS,
    **attributes: Any,
) -> tuple[bytes, dict[str, Any]]:
    """A layer of (steps, batch, hidden) and 7 inputs, and its feeds; steps and batch are symbols.

    Weights that are not `constant` are inputs of the model: then no kernel takes it.
    """
    steps, batch, hidden = sizes
    random = np.random.default_rng(hidden + steps)
    sides = 2 if attributes.get("direction") == "bidirectional" else 1
    first = attributes.get("layout", 0) == 1
    rows = GATES[op] * hidden

    def normal(*shape: int) -> Any:
        return (random.standard_normal(shape) / np.sqrt(shape[-1])).astype(np.float32)

    state = (batch, sides, hidden) if first else (sides, batch, hidden)
    weights = {"w": normal(sides, rows, 7), "r": normal(sides, rows, hidden)}
    weights |= {"b": normal(sides, 2 * rows)} if "b" in optional else {}
    feeds = {"x": 3 * normal(*((batch, steps, 7) if first else (steps, batch, 7)))}
    if "lengths" in optional:
        feeds["lengths"] = random.integers(1, steps + 1, batch).astype(np.int32)
    feeds |= {"h": normal(*state)} if "h" in optional else {}
    feeds |= {"c": normal(*state)} if "c" in optional and op == "LSTM" else {}
    if "p" in optional and op == "LSTM":
        weights["p"] = normal(sides, 3 * hidden)
    given = weights | feeds
    known = ("x", "w", "r", "b", "lengths", "h", "c", "p")[: 8 if op == "LSTM" else 6]
    names = [name if name in given else "" for name in known]
    results = [name if name in outputs else "" for name in OUTPUTS[: 3 if op == "LSTM" else 2]]
    node = helper.make_node(op, names, results, "cell", hidden_size=hidden, **attributes)
    symbols: dict[str, list[int | str]] = {
        "x": ["batch", "steps", 7] if first else ["steps", "batch", 7],
        "lengths": ["batch"],
        "h": ["batch", sides, hidden] if first else [sides, "batch", hidden],
    }
    symbols["c"] = symbols["h"]
    if not constant:
        feeds |= weights
    ports = [
        helper.make_tensor_value_info(
            name, helper.np_dtype_to_tensor_dtype(a.dtype), symbols.get(name, list(a.shape))
        )
        for name, a in feeds.items()
    ]
    stored = (
        [] if not constant else [onnx.numpy_helper.from_array(a, n) for n, a in weights.items()]
    )
    ends = [helper.make_tensor_value_info(name, 1, None) for name in results if name]
    graph = helper.make_graph([node], op, ports, ends, stored)
    opsets = [helper.make_opsetid("", 14)]
    made = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    return made.SerializeToString(), feeds


SIZES = [
    (1, 1, 8), (2, 3, 48), (7, 8, 48), (64, 1, 48), (64, 8, 8), (7, 3, 256), (2, 8, 256),
    (7, 40, 20), (3, 100, 24),
]  # fmt: skip
KINDS: list[tuple[str, dict[str, Any]]] = [
    ("LSTM", {}),
    ("GRU", {}),
    ("GRU", {"linear_before_reset": 1}),
    ("RNN", {}),
    ("RNN", {"activations": ["Relu"]}),
]


def twice(attributes: dict[str, Any]) -> dict[str, Any]:
    """The attributes for both directions."""
    more = {"activations": 2 * attributes["activations"]} if "activations" in attributes else {}
    return {**attributes, **more, "direction": "bidirectional"}


def kernels(plan: planck.Plan) -> list[str]:
    """Family and kernel of each step."""
    return [f"{step.family} {step.kernel}" for step in plan.steps]


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize(("op", "attributes"), KINDS)
def test_kernels_agree_with_the_reference(
    op: str, attributes: dict[str, Any], sizes: tuple[int, int, int]
) -> None:
    for options in (attributes, {**attributes, "direction": "reverse"}, twice(attributes)):
        fast, feeds = layer(op, sizes, **options)
        slow, more = layer(op, sizes, constant=False, **options)
        plan, reference = planck.build(fast, fallback="error"), planck.build(slow)
        assert "reference" in " ".join(kernels(reference))
        got, want = plan.run(feeds), reference.run(more)
        assert list(got) == list(want)
        for name in want:
            np.testing.assert_allclose(got[name], want[name], rtol=2e-5, atol=4e-6)
        alone = planck.build(fast, threads=1).run(feeds)
        assert all(alone[name].tobytes() == got[name].tobytes() for name in want)


@pytest.mark.parametrize("optional", [(), ("b",), ("b", "lengths"), ("h", "c", "lengths", "p")])
@pytest.mark.parametrize(("op", "attributes"), KINDS)
def test_what_is_absent_and_lengths(
    op: str, attributes: dict[str, Any], optional: tuple[str, ...]
) -> None:
    for options in (attributes, twice(attributes)):
        for outputs in [OUTPUTS, ("y",), ("y_h",), ("y", "y_c")]:
            kept = tuple(name for name in outputs if name != "y_c" or op == "LSTM")
            data, feeds = layer(op, (5, 4, 19), True, optional, kept, **options)
            session = ort.InferenceSession(data, providers=["CPUExecutionProvider"])
            got = planck.build(data, fallback="error").run(feeds)
            for name, want in zip(got, session.run(list(got), feeds), strict=True):
                np.testing.assert_allclose(got[name], want, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize(("op", "attributes"), KINDS)
def test_batch_first(op: str, attributes: dict[str, Any]) -> None:
    for options in ({**attributes, "layout": 1}, {**twice(attributes), "layout": 1}):
        fast, feeds = layer(op, (6, 3, 21), optional=("b", "lengths", "h", "c", "p"), **options)
        slow, more = layer(
            op, (6, 3, 21), False, optional=("b", "lengths", "h", "c", "p"), **options
        )
        feeds["lengths"][1] = more["lengths"][1] = 0
        got, want = planck.build(fast, fallback="error").run(feeds), planck.build(slow).run(more)
        for name in want:
            np.testing.assert_allclose(got[name], want[name], rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize(("op", "attributes"), KINDS)
def test_no_step_and_no_sample(op: str, attributes: dict[str, Any]) -> None:
    data, _ = layer(op, (1, 1, 8), **twice(attributes))
    slow, _ = layer(op, (1, 1, 8), constant=False, **twice(attributes))
    plan, reference = planck.build(data, fallback="error"), planck.build(slow)
    for steps, batch in [(0, 2), (3, 0), (0, 0)]:
        _, feeds = layer(op, (steps, batch, 8), **twice(attributes))
        _, more = layer(op, (steps, batch, 8), constant=False, **twice(attributes))
        got, want = plan.run(feeds), reference.run(more)
        for name in want:
            np.testing.assert_array_equal(got[name], want[name])


@pytest.mark.parametrize("length", [-1, 6])
def test_lengths_outside(length: int) -> None:
    data, feeds = layer("LSTM", (5, 4, 8), optional=("lengths",))
    feeds["lengths"][2] = length
    with pytest.raises(planck.RunError, match=f"sequence_lens holds {length}"):
        planck.build(data).run(feeds)


def test_the_placement() -> None:
    data, _ = layer("LSTM", (5, 4, 256), direction="bidirectional")
    plan = planck.build(data, fallback="error")
    assert [step.family for step in plan.steps] == ["linear", "recurrent"]
    assert all(step.kernel.startswith("matmul_f32f32f32") for step in plan.steps)


@pytest.mark.parametrize(("op", "attributes"), KINDS)
def test_weights_are_stored_once_and_found_again(op: str, attributes: dict[str, Any]) -> None:
    data, feeds = layer(op, (3, 2, 96), **twice(attributes))
    plan = planck.build(data)
    weights = 4 * 2 * GATES[op] * 96 * (7 + 96)
    assert plan.constant_bytes < 1.2 * weights
    report = planck.compare(planck.load(plan.to_bytes()), "double", feeds)
    assert report.ok and len(report.rows) == (3 if op == "LSTM" else 2)


def exported(first: bool, both: bool) -> bytes:
    """Two LSTM layers and a product as exporters write them; `first`: batch first."""
    random = np.random.default_rng(9)
    nodes: list[Any] = []
    stored: list[Any] = []

    def weight(values: Any, dtype: Any = np.float32) -> str:
        stored.append(onnx.numpy_helper.from_array(np.asarray(values, dtype), f"w{len(stored)}"))
        return str(stored[-1].name)

    def node(op: str, *inputs: str, **attributes: Any) -> str:
        nodes.append(helper.make_node(op, inputs, [f"v{len(nodes)}"], **attributes))
        return str(nodes[-1].output[0])

    sides, hidden, width = 1 + both, 20, 7
    x = node("Transpose", "x", perm=[1, 0, 2]) if first else "x"
    batch = node("Gather", node("Shape", x), weight([1], np.int64))
    ends = [weight([sides], np.int64), batch, weight([hidden], np.int64)]
    zeros = node("ConstantOfShape", node("Concat", *ends, axis=0))
    for _ in range(2):
        shapes = [(sides, 4 * hidden, width), (sides, 4 * hidden, hidden), (sides, 8 * hidden)]
        weights = [weight(random.normal(scale=0.3, size=shape)) for shape in shapes]
        direction = "bidirectional" if both else "forward"
        y = node("LSTM", x, *weights, "", zeros, zeros, hidden_size=hidden, direction=direction)
        if both:
            y = node("Transpose", y, perm=[0, 2, 1, 3])
            x = node("Reshape", y, weight([0, 0, -1], np.int64))
        else:
            x = node("Squeeze", y, weight([1], np.int64))
        width = sides * hidden
    x = node("Transpose", x, perm=[1, 0, 2]) if first else x
    x = node("MatMul", x, weight(random.normal(size=(width, 5))))
    port = helper.make_tensor_value_info("x", 1, ["a", "b", 7])
    result = helper.make_tensor_value_info(x, 1, None)
    graph = helper.make_graph(nodes, "exported", [port], [result], stored)
    opsets = [helper.make_opsetid("", 14)]
    return bytes(helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString())


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("both", [False, True])
def test_what_exporters_write_has_no_copies(first: bool, both: bool) -> None:
    data = exported(first, both)
    plan = planck.build(data, fallback="error")
    assert [s.family for s in plan.steps] == ["linear", "recurrent"] * 2 + ["linear"]
    session = ort.InferenceSession(data, providers=["CPUExecutionProvider"])
    x = np.random.default_rng(2).standard_normal((6, 3, 7)).astype(np.float32)
    (want,) = session.run(None, {"x": x})
    (got,) = plan.run({"x": x}).values()
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=5e-6)


@pytest.mark.parametrize(
    ("op", "attributes", "why"),
    [
        ("LSTM", {"clip": 0.5}, "clips"),
        ("LSTM", {"input_forget": 1}, "gates are one"),
        ("GRU", {"activations": ["Sigmoid", "Elu"]}, "activations"),
    ],
)
def test_the_plan_says_what_is_slow(op: str, attributes: dict[str, Any], why: str) -> None:
    data, _ = layer(op, (2, 2, 8), **attributes)
    assert why in planck.build(data).explain()
    with pytest.raises(planck.UnsupportedError, match=why):
        planck.build(data, fallback="error")
    data, _ = layer(op, (2, 2, 8), constant=False)
    with pytest.raises(planck.UnsupportedError, match="not constant"):
        planck.build(data, fallback="error")


def test_a_saved_plan_has_the_same_bits() -> None:
    data, feeds = model("GRU", {"direction": "bidirectional"}, optional=True)
    plan = planck.build(data)
    again = planck.load(plan.to_bytes()).run(feeds)
    for name, want in plan.run(feeds).items():
        assert again[name].tobytes() == want.tobytes()

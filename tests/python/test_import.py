"""Models as files: damaged, unsupported, with weights beside them."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest

import planck
import planck.models

onnx = pytest.importorskip("onnx")


def tiny(*nodes, opset=17, domains=()):
    """A model from "x" f32[N,4] to the last node's output."""
    x = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["N", 4])
    y = onnx.helper.make_tensor_value_info(nodes[-1].output[0], onnx.TensorProto.FLOAT, None)
    graph = onnx.helper.make_graph(list(nodes), "tiny", [x], [y])
    imports = [onnx.helper.make_opsetid("", opset)]
    imports += [onnx.helper.make_opsetid(domain, 1) for domain in domains]
    return onnx.helper.make_model(graph, opset_imports=imports)


def test_cut_model_is_a_typed_error(model_path):
    whole = model_path("bert_encoder").read_bytes()
    for at in np.linspace(0, len(whole) - 1, 200).astype(int):
        start = time.perf_counter()
        with pytest.raises((planck.ParseError, planck.GraphError)):
            planck.build(whole[:at])
        assert time.perf_counter() - start <= 1.0, f"cut at byte {at}"


def test_every_unsupported_op_is_listed():
    node = onnx.helper.make_node
    model = tiny(
        node("Frobnicate", ["x"], ["a"], name="first"),
        node("Frobnicate", ["a"], ["b"]),
        node("Relu", ["b"], ["c"]),
        node("QuickFox", ["c"], ["d"], domain="com.example"),
        node("NhwcMaxPool", ["d"], ["e"], domain="com.microsoft"),
        domains=("com.example", "com.microsoft"),
    )
    with pytest.raises(planck.UnsupportedError) as caught:
        planck.build(model.SerializeToString())
    text = str(caught.value)
    assert "Frobnicate (2 nodes, first 'first')" in text
    assert "com.example.QuickFox (1 node" in text
    assert "com.microsoft.NhwcMaxPool" in text and "without its optimizer" in text
    assert len(caught.value.items) == 3


def test_new_opset_names_both_versions():
    model = tiny(onnx.helper.make_node("Relu", ["x"], ["y"]), opset=999)
    with pytest.raises(planck.VersionError, match=r"opset 999.* 1 to \d+"):
        planck.build(model.SerializeToString())


def test_errors_name_the_node():
    model = tiny(onnx.helper.make_node("Softmax", ["x"], ["y"], name="probs", axis=5))
    with pytest.raises(planck.GraphError, match="node probs") as caught:
        planck.build(model.SerializeToString())
    assert caught.value.node == "probs" and caught.value.op_type == "Softmax"


def same_outputs(a, b):
    feeds = planck.models.feeds("bert_encoder", (2, 6), size="mini")
    left, right = a.run(feeds), b.run(feeds)
    assert list(left) == list(right)
    assert all(np.array_equal(left[name], right[name]) for name in left)


def test_external_weights_give_the_same_outputs(model_path):
    plain = planck.build(model_path("bert_encoder"))
    beside = model_path("bert_encoder", external_data=True)
    same_outputs(plain, planck.build(beside))
    # The same model as bytes has no folder until it is told one.
    with pytest.raises(planck.ExternalDataError, match="has no folder"):
        planck.build(beside.read_bytes())
    same_outputs(
        plain, planck.build(beside.read_bytes(), external_data_dir=os.fspath(beside.parent))
    )


def test_weights_outside_the_folder_are_refused(model_path, tmp_path):
    source = model_path("bert_encoder", external_data=True)
    inside = tmp_path / "model" / source.name
    inside.parent.mkdir()
    inside.write_bytes(source.read_bytes())
    weights = tmp_path / "weights"
    weights.write_bytes(Path(f"{source}.data").read_bytes())
    beside = Path(f"{inside}.data")
    with pytest.raises(planck.ExternalDataError, match="cannot be opened"):
        planck.build(inside)
    beside.symlink_to(weights)
    with pytest.raises(planck.ExternalDataError, match="symbolic link"):
        planck.build(inside)
    beside.unlink()
    beside.hardlink_to(weights)
    with pytest.raises(planck.ExternalDataError, match="hard links"):
        planck.build(inside)
    beside.unlink()
    os.mkfifo(beside)
    with pytest.raises(planck.ExternalDataError, match="regular file"):
        planck.build(inside)


def test_old_opsets_mean_the_same(reference, tmp_path):
    """Softmax over the trailing axes, axes and bounds as attributes."""
    node = onnx.helper.make_node
    model = tiny(
        node("Unsqueeze", ["x"], ["a"], axes=[1]),
        node("Clip", ["a"], ["b"], min=-0.5, max=1.0),
        node("Softmax", ["b"], ["c"], axis=1),
        node("Slice", ["c"], ["d"], starts=[1], ends=[4], axes=[2]),
        node("ReduceMean", ["d"], ["y"], axes=[1], keepdims=0),
        opset=9,
    )
    model.ir_version = 4
    path = tmp_path / "old.onnx"
    path.write_bytes(model.SerializeToString())
    feeds = {"x": np.random.default_rng(1).normal(size=(3, 4)).astype(np.float32)}
    got, want = planck.build(path).run(feeds)["y"], reference(path, feeds)["y"]
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("form", ["raw", "int32_data"])
@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
def test_half_weights(kind, form):
    """Both ways of storing bits; the Cast folds, so the product is a plain Linear."""
    ml_dtypes = pytest.importorskip("ml_dtypes")
    dtype = np.dtype(np.float16 if kind == "float16" else ml_dtypes.bfloat16)
    weight = np.random.default_rng(4).normal(size=(4, 3)).astype(dtype)
    weight[0, 0], weight[1, 1] = -0.0, 6e-8  # a signed zero, a subnormal of float16
    number = onnx.helper.np_dtype_to_tensor_dtype(dtype)
    tensor = onnx.TensorProto(name="w", data_type=number, dims=weight.shape)
    if form == "raw":
        tensor.raw_data = weight.tobytes()
    else:
        tensor.int32_data.extend(int(v) for v in weight.reshape(-1).view(np.uint16))
    model = tiny(
        onnx.helper.make_node("Cast", ["w"], ["wide"], to=onnx.TensorProto.FLOAT),
        onnx.helper.make_node("MatMul", ["x", "wide"], ["y"]),
    )
    model.graph.initializer.append(tensor)
    plan = planck.build(model.SerializeToString(), fallback="error")
    assert [step.op for step in plan.steps] == ["planck.Linear"]
    x = np.eye(4, dtype=np.float32)
    np.testing.assert_array_equal(plan.run({"x": x})["y"], weight.astype(np.float32))

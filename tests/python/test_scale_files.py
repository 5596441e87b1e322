"""Scale files of other tools: read by format, bound to a model by name, refused with a reason."""

from __future__ import annotations

import io
import json
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import planck
from planck.outline import TensorType, read_outline, with_ports
from planck.scale_files import scale_kinds

HEADER = "TRT-8600-EntropyCalibration2\n"


def cache(**scales: float) -> bytes:
    rows = (f"{name}: {struct.pack('>f', scale).hex()}\n" for name, scale in scales.items())
    return (HEADER + "".join(rows)).encode()


def says(scales: planck.Scales, part: str) -> bool:
    return any(part in note for note in scales.notes)


def model_of(nodes: list[Any], weights: dict[str, Any], shapes: dict[str, list[Any]]) -> bytes:
    """A float32 model: x and y are its input and output."""
    infos = {n: helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in shapes.items()}
    graph = helper.make_graph(
        nodes,
        "g",
        [infos["x"]],
        [infos["y"]],
        [numpy_helper.from_array(np.asarray(w, np.float32), n) for n, w in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    data: bytes = model.SerializeToString()
    return data


@pytest.fixture(scope="module")
def linear() -> bytes:
    """x -> fc1 (Gemm, transB) -> /act/Relu -> fc2 (MatMul with an anonymous weight) -> Softmax."""
    random = np.random.default_rng(0)
    nodes = [
        helper.make_node("Gemm", ["x", "fc1.weight", "fc1.bias"], ["h"], "fc1", transB=1),
        helper.make_node("Relu", ["h"], ["/act/Relu_output_0"], "act"),
        helper.make_node("MatMul", ["/act/Relu_output_0", "onnx::MatMul_7"], ["m"], "fc2"),
        helper.make_node("Add", ["fc2.bias", "m"], ["a"], "fc2.add"),
        helper.make_node("Softmax", ["a"], ["y"], "softmax"),
    ]
    weights = {
        "fc1.weight": random.normal(size=(6, 4)),
        "fc1.bias": random.normal(size=6),
        "onnx::MatMul_7": random.normal(size=(6, 3)),
        "fc2.bias": random.normal(size=3),
    }
    return model_of(nodes, weights, {"x": ["n", 4], "y": ["n", 3]})


@pytest.mark.parametrize(
    ("digits", "scale", "threshold"),
    [
        ("4000890a", 2.0083642, 255.06225),
        ("3caa54fc", 0.020792477, 2.6406446),
        ("3c008912", 0.0078451801, 0.99633787),
        ("3c010204", 0.0078740157, 1.0),
    ],
)
def test_cache_fixtures(digits: str, scale: float, threshold: float, tmp_path: Path) -> None:
    path = tmp_path / "calibration.cache"
    path.write_text(f"{HEADER}x: {digits}\n")
    scales = planck.import_scales(path)
    assert scales["x"].scale[0] == np.float32(scale)
    assert scales["x"].threshold == pytest.approx(threshold, rel=1e-7)
    assert scales.kind == "trt_cache" and scales.method == "entropy"
    assert scales.to_trt_cache(tmp_path / "again.cache") == path.read_text()
    assert (tmp_path / "again.cache").read_bytes() == path.read_bytes()


def test_cache_header_is_checked() -> None:
    scales = planck.Scales.from_ranges({"x": 1.0, "dead": 0.0})
    text = scales.to_trt_cache(header="TRT-100300-MinMaxCalibration")
    assert text == "TRT-100300-MinMaxCalibration\nx: 3c010204\ndead: 00000000\n"
    with pytest.raises(planck.UsageError, match="no header"):
        scales.to_trt_cache(header="TRT-8600")
    with pytest.raises(planck.UsageError, match="cannot hold the name"):
        planck.Scales.from_ranges({"a\nb": 1.0}).to_trt_cache()


def test_every_kind_says_what_was_assumed() -> None:
    samples = {
        "trt_cache": cache(x=0.02).decode(),
        "planck": planck.Scales.from_ranges({"x": 2.54}).to_json(),
        "tao": json.dumps({"tensor_scales": {"x": 2.54}}),
        "cudla": json.dumps({"int8_tensor_scales": {"x": 0.02}, "fp16_nodes": []}),
        "mqbench": json.dumps({"blob_range": {"x": 2.54}}),
        "aimet": json.dumps(
            {
                "activation_encodings": {
                    "x": [{"scale": 0.02, "offset": -128, "bitwidth": 8, "is_symmetric": "True"}]
                }
            }
        ),
        "ort_json": json.dumps({"x": {"lowest": -2.54, "highest": 1.0, "CLS": "TensorData"}}),
        "qat_amax": json.dumps({"x._input_quantizer._amax": 2.54}),
        "lsq": json.dumps({"x": {"step_size": 0.02, "qmin": -128, "qmax": 127}}),
        "sample_int8": "x: 2.54\n",
        "ort_text": "x 2.54\n",
    }
    assert samples.keys() | {"ort_flatbuffers"} == scale_kinds().keys()
    for kind, text in samples.items():
        for asked in ("auto", kind):
            scales = planck.import_scales(text.encode(), asked)
            [grid] = scales.values()
            assert grid.scale[0] == pytest.approx(0.02, rel=1e-6), kind
            if kind != "planck":  # which says where its numbers are from
                assert scales.kind == kind and kind in scales.notes[0]
                assert ("range" in scales.notes[0]) != scales.notes[0].split(": ")[1].startswith(
                    "scales"
                )


def test_onnxruntime_writes_three_twins(tmp_path: Path) -> None:
    calibrate = pytest.importorskip("onnxruntime.quantization.calibrate")
    from onnxruntime.quantization.quant_utils import write_calibration_table

    ranges = {"a b": (-0.5, 2.54), "c": (-5.0, 1.0), "long" * 40: (0.0, 0.25)}
    table = {
        name: calibrate.TensorData(lowest=np.float32(low), highest=np.float32(high))
        for name, (low, high) in ranges.items()
    }
    write_calibration_table(table, str(tmp_path))
    text = planck.import_scales(tmp_path / "calibration.cache")
    flat = planck.import_scales(tmp_path / "calibration.flatbuffers")
    both = planck.import_scales(tmp_path / "calibration.json")
    assert (text.kind, flat.kind, both.kind) == ("ort_text", "ort_flatbuffers", "ort_json")
    assert dict(text) == dict(flat)
    assert text["a b"] == both["a b"]
    assert text["c"].threshold == 1.0 and says(text, "[-5, 1]")  # its writer lost the sign
    assert both["c"].threshold == 5.0
    data = (tmp_path / "calibration.flatbuffers").read_bytes()
    for cut in range(len(data) - 4):  # at most three zeros at the end fill a word
        with pytest.raises(planck.ParseError):
            planck.import_scales(data[:cut], "ort_flatbuffers")


def test_damaged_bytes_are_typed_errors(linear: bytes) -> None:
    random = np.random.default_rng(0)
    flat = bytes.fromhex(
        "0c00000000000600080004000600000004000000010000000c00000008000c00080004000800000008000000"
        "0c00000003000000312e30000100000078000000"
    )
    assert planck.import_scales(flat).names == ("x",)
    samples = [flat, cache(x=0.02, y=1.5), npz(a=np.float32(2)), linear]
    for sample in samples:
        for _ in range(150):
            damaged = bytearray(sample)
            for place in random.integers(0, len(damaged), 1 + int(random.integers(3))):
                damaged[place] = random.integers(256)
            try:
                if sample is linear:
                    read_outline(bytes(damaged))
                else:
                    planck.import_scales(bytes(damaged))
            except planck.Error as error:
                assert not isinstance(error, planck.InternalError)


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(planck.UsageError, match="no scale file has the kind 'trt'") as error:
        planck.import_scales(b"x: 1\n", "trt")
    assert "trt_cache" in error.value.expected
    with pytest.raises(planck.FileError):
        planck.import_scales(tmp_path / "none")
    with pytest.raises(planck.FileError, match="regular"):
        planck.import_scales(tmp_path)
    for data in (b"", b"\n", b"\x80\x04}q\x00.", b"PK\x03\x04", b"{", b"\xff\xfe"):
        with pytest.raises(planck.ParseError):
            planck.import_scales(data)
    with pytest.raises(planck.ParseError, match="not tao"):
        planck.import_scales(npz(a=np.float32(1)), "tao")


@pytest.mark.parametrize(
    ("text", "error", "match"),
    [
        ("a: 0a890040\nb: fc54aa3c\n", planck.CalibrationError, "little-endian"),
        ("a: 0.0207\n", planck.ParseError, "decimal text"),
        ("a: 7fc00000\n", planck.CalibrationError, "scale of 'a'"),
        ("a: bc010204\n", planck.CalibrationError, "scale of 'a'"),
        ("a: 3c010204\na: 3c010205\n", planck.CalibrationError, "two scales"),
        ("a: 3c01020400\n", planck.ParseError, "line 2"),
    ],
)
def test_faults_of_writers(text: str, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        planck.import_scales((HEADER + text).encode())


def test_binding_by_name(linear: bytes) -> None:
    data = cache(
        **{"a": 0.1, "x": 0.02, "act.Relu_output_0": 0.03, "ghost/h": 0.1, "fc1.weight": 1}
    )
    scales = planck.import_scales(data, model=linear)
    assert scales.names == ("x", "/act/Relu_output_0", "a")  # topological
    assert scales.model_hash == planck.calibration.model_hash(linear)
    assert says(scales, "covers 3 of the 6 float tensors") and says(scales, "without scales: 'h'")
    assert says(scales, "1 names differ in punctuation") and says(scales, "1 names are not")
    assert says(scales, "1 entries of weights")
    assert planck.import_scales(data, model=onnx.load_from_string(linear)) == scales
    assert scales.to_trt_cache().splitlines()[1:] == [
        "x: 3ca3d70a",
        "/act/Relu_output_0: 3cf5c28f",
        "a: 3dcccccd",
    ]


def test_scales_of_another_model_are_noted(linear: bytes) -> None:
    def of(digest: str) -> bytes:
        scales = planck.Scales.from_ranges({"x": 1.0})
        scales.model_hash = digest
        return scales.to_json().encode()

    assert says(planck.import_scales(of("ab"), model=linear), "another model file")
    same = planck.calibration.model_hash(linear)
    assert not says(planck.import_scales(of(same), model=linear), "another model file")


def test_binding_nothing_names_the_nearest(linear: bytes) -> None:
    with pytest.raises(planck.CalibrationError, match=r"covers no tensor.*Relu_output_0") as error:
        planck.import_scales(cache(**{"act/Relu_output_1": 0.1}), model=linear)
    assert "'x'" in error.value.expected


def test_ranges_where_scales_should_be_are_noted(linear: bytes) -> None:
    wrong = planck.import_scales(cache(x=2.0, y=1.0), model=linear)
    assert says(wrong, "'y' is the result of Softmax") and wrong["y"].scale[0] == 1
    right = planck.import_scales(cache(x=2.0, y=1 / 127), model=linear)
    assert not says(right, "Softmax")


def test_scales_must_fit_the_weight(linear: bytes) -> None:
    rows = {"fc1.weight": {"scale": [0.1] * 6, "qmin": -127, "qmax": 127, "axis": 0}}
    scales = planck.import_scales(json.dumps(rows).encode(), model=linear)
    assert scales["fc1.weight"].scale.shape == (6,)
    rows["fc1.weight"]["axis"] = 1
    with pytest.raises(planck.CalibrationError, match="6 scales along axis 1"):
        planck.import_scales(json.dumps(rows).encode(), model=linear)
    rows["fc1.weight"]["axis"] = 2
    with pytest.raises(planck.CalibrationError, match=r"axis of 'fc1\.weight' is 2"):
        planck.import_scales(json.dumps(rows).encode(), model=linear)


# --- QAT buffers


def npz(**arrays: Any) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **{name + "._input_quantizer._amax": a for name, a in arrays.items()})
    return stream.getvalue()


def amax(**modules: Any) -> bytes:
    """.npz of quantizers: module -> (input, weight)."""
    arrays: dict[str, Any] = {}
    for module, (given, weight) in modules.items():
        arrays[f"{module}._input_quantizer._amax"] = np.float32(given)
        if weight is not None:
            arrays[f"{module}._weight_quantizer._amax"] = np.asarray(weight, np.float32)
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


def test_quantizers_bind_to_weights(linear: bytes) -> None:
    rows = np.arange(1, 7, dtype=np.float32).reshape(6, 1)
    data = amax(fc1=(2.54, rows), fc2=(1.27, [1, 0, 3]), ghost=(1, 1))
    scales = planck.import_scales(data, model=linear)
    assert scales.only_bound and scales.method == "qat"
    assert scales.layers == {"fc1.weight": ("x",), "onnx::MatMul_7": ("/act/Relu_output_0",)}
    assert scales["x"].scale[0] == np.float32(np.float64(np.float32(2.54)) / 127)
    assert (scales["fc1.weight"].axis, scales["onnx::MatMul_7"].axis) == (0, 1)
    assert np.array_equal(scales["fc1.weight"].scale, np.float32(rows[:, 0] / 127.0))
    assert scales["onnx::MatMul_7"].scale[1] == 1  # a channel of zeros
    assert says(scales, "2 layers are bound") and says(scales, "1 modules are not bound: 'ghost'")
    assert planck.Scales.from_json(scales.to_json()) == scales
    assert planck.import_scales(scales.to_json().encode(), model=None).layers == scales.layers


def test_half_a_pair_of_quantizers_binds_nothing(linear: bytes) -> None:
    data = amax(fc1=(2.54, None), fc2=(1.27, [1, 2, 3]))
    scales = planck.import_scales(data, model=linear)
    assert list(scales.layers) == ["onnx::MatMul_7"]
    assert says(scales, "1 modules are not bound: 'fc1 (one of its two ranges lacks)'")


def test_quantizers_as_json_are_the_same(linear: bytes) -> None:
    text = json.dumps(
        {"fc1._input_quantizer._amax": 2.5, "fc1._weight_quantizer._amax": [1, 2, 3, 4, 5, 6]}
    )
    arrays = amax(fc1=(2.5, [1, 2, 3, 4, 5, 6]))
    one, other = (planck.import_scales(data, model=linear) for data in (text.encode(), arrays))
    assert list(one.values()) == list(other.values()) and one.layers == other.layers
    raw = planck.import_scales(arrays)
    assert not raw.only_bound and says(raw, "model= binds them")


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (amax(fc3=(1, 1)), r"bind no layer.*'fc3'.*fc1\.weight"),
        (amax(fc1=(np.nan, 1)), "range of 'fc1._input_quantizer._amax' is nan"),
        (amax(fc1=(-1, 1)), "is -1.0"),
        (amax(fc1=(1, [1, 2])), "2 ranges, the weight 'fc1.weight' has 6"),
        (amax(fc1=([1, 2], 1)), "input range of 'fc1' has 2 numbers"),
    ],
)
def test_quantizers_that_do_not_fit(linear: bytes, data: bytes, match: str) -> None:
    with pytest.raises(planck.CalibrationError, match=match):
        planck.import_scales(data, model=linear)


def test_npz_holds_no_code_and_no_bombs() -> None:
    stream = io.BytesIO()
    hidden: dict[str, Any] = {"a_amax": np.array([{}], dtype=object)}
    np.savez(stream, **hidden)
    with pytest.raises(planck.ParseError, match="object"):
        planck.import_scales(stream.getvalue())
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1099511627776,), }".ljust(117)
        archive.writestr("a_amax.npy", b"\x93NUMPY\x01\x00\x76\x00" + header + b"\n" + bytes(4))
    with pytest.raises(planck.ParseError, match="promises"):
        planck.import_scales(stream.getvalue())


def test_quantizers_of_wenet_bind_its_feed_forwards(model_path: Callable[..., Path]) -> None:
    path = model_path("wenet_encoder")
    outline = read_outline(path)
    ends = (".feed_forward.w_1.weight", ".feed_forward_macaron.w_2.weight")
    names = [n.removesuffix(".weight") for n in outline.initializers if n.endswith(ends)]
    biases = [n.removesuffix(".bias") for n in outline.initializers if ".feed_forward" in n]
    modules = names or [n for n in dict.fromkeys(biases) if n.endswith((".w_1", ".w_2"))]
    assert modules
    scales = planck.import_scales(amax(**dict.fromkeys(modules, (1.0, 0.5))), model=path)
    assert len(scales.layers) == len(modules) and says(scales, f"{len(modules)} layers are bound")
    assert all(name in scales for fed in scales.layers.values() for name in fed)


# --- the outline of a model


def test_outline_agrees_with_onnx(model_path: Callable[..., Path]) -> None:
    path = model_path("bert_encoder")
    outline, model = read_outline(path), onnx.load(path)
    graph = model.graph
    assert [(n.name, n.op_type, n.domain) for n in outline.nodes] == [
        (n.name, n.op_type, n.domain) for n in graph.node
    ]
    assert [(n.inputs, n.outputs) for n in outline.nodes] == [
        (list(n.input), list(n.output)) for n in graph.node
    ]
    assert {n: k.dims for n, k in outline.initializers.items()} == {
        t.name: tuple(t.dims) for t in graph.initializer
    }
    assert list(outline.outputs) == [o.name for o in graph.output]
    assert outline.opsets == {o.domain: o.version for o in model.opset_import}
    assert read_outline(path.read_bytes()) == outline


def test_ports_can_be_changed(linear: bytes) -> None:
    kinds = {"h": TensorType(1, ("n", 6)), "y": TensorType(1, (None, 3)), "m": TensorType()}
    changed = onnx.load_from_string(with_ports(linear, {}, kinds))
    original = onnx.load_from_string(linear)
    assert [o.name for o in changed.graph.output] == ["h", "y", "m"]
    assert changed.graph.output[0].type.tensor_type.shape.dim[0].dim_param == "n"
    del changed.graph.output[:], original.graph.output[:]
    assert changed == original
    [h, y] = [read_outline(with_ports(linear, {}, kinds)).outputs[n] for n in ("h", "y")]
    assert (h, y) == (kinds["h"], kinds["y"])
    fixed = read_outline(with_ports(linear, {"x": TensorType(1, (2, 4))}, {"y": kinds["y"]}))
    assert fixed.inputs == {"x": TensorType(1, (2, 4))}

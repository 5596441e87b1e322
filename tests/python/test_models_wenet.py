"""The WeNet encoder and decoder are what they claim: chains, bytes, feeds and values."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from planck import models
from planck.models import _wenet

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")

NAMES = ["wenet_encoder", "wenet_decoder"]
ENCODER_BLOCK = Counter(
    Constant=27, Add=25, MatMul=12, Mul=11, ReduceMean=10, Transpose=8, Div=6, Unsqueeze=6, Sub=5,
    Pow=5, Sqrt=5, Concat=5, Reshape=5, Cast=5, Sigmoid=4, Where=4, Conv=3, Shape=3, Gather=3,
    Not=2, Equal=1, Softmax=1, Split=1,
)  # fmt: skip
DECODER_LAYER = Counter(
    Constant=28, Add=19, MatMul=14, Unsqueeze=10, Reshape=8, Concat=8, Transpose=8, ReduceMean=6,
    Cast=6, Div=5, Shape=4, Gather=4, Where=4, Sub=3, Pow=3, Sqrt=3, Mul=3, Equal=2, Softmax=2,
    Relu=1,
)  # fmt: skip
# The period of each graph: the scope of a layer, its nodes, and how many full size has.
PERIODS = {
    "wenet_encoder": ("/encoder/encoders.{}/", ENCODER_BLOCK, 12),
    "wenet_decoder": ("/decoder/decoders.{}/", DECODER_LAYER, 6),
}
PORTS = {
    "wenet_encoder": (
        {"speech": ("float32", ("B", "T", 80)), "speech_lengths": ("int32", ("B",))},
        {
            "encoder_out": ("float32", ("B", "T_OUT", 256)),
            "encoder_out_lens": ("int32", ("B",)),
            "ctc_log_probs": ("float32", ("B", "T_OUT", 4233)),
            "beam_log_probs": ("float32", ("B", "T_OUT", 10)),
            "beam_log_probs_idx": ("int64", ("B", "T_OUT", 10)),
        },
    ),
    "wenet_decoder": (
        {
            "encoder_out": ("float32", ("B", "T", 256)),
            "encoder_out_lens": ("int32", ("B",)),
            "hyps_pad_sos_eos": ("int64", ("B", 10, "T2_PLUS_1")),
            "hyps_lens_sos": ("int32", ("B", 10)),
            "ctc_score": ("float32", ("B", 10)),
        },
        {
            "decoder_out": ("float32", ("B", 10, "T2", 4233)),
            "best_index": ("int64", ("B",)),
        },
    ),
}
FRAMES = [(7, 1), (8, 1), (16, 3), (17, 3), (18, 3), (19, 4), (64, 15), (256, 63)]


def session(path: Path) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return ort.InferenceSession(str(path), options)


def run(path: Path, feeds: dict[str, Any]) -> dict[str, Any]:
    model = session(path)
    return dict(zip([p.name for p in model.get_outputs()], model.run(None, feeds), strict=True))


def mini(folder: Path, name: str, **options: Any) -> Path:
    path = folder / f"{name}.onnx"
    models.write(name, path, "mini", **options)
    return path


def frames_after(frames: int) -> int:
    return ((frames - 1) // 2 - 1) // 2


# Structure.


@pytest.mark.parametrize("opset", [13, 17, 18])
@pytest.mark.parametrize("name", NAMES)
def test_periods(name: str, opset: int) -> None:
    scope, census, count = PERIODS[name]
    nodes = models.build(name, opset=opset).nodes
    for layer in range(count):
        inside = Counter(node.op for node in nodes if node.name.startswith(scope.format(layer)))
        assert inside == census
    assert not any(node.name.startswith(scope.format(count)) for node in nodes)


@pytest.mark.parametrize(
    ("name", "front", "period", "tail"),
    [("wenet_encoder", 85, 157, 21), ("wenet_decoder", 168, 141, 78)],
)
def test_front_and_tail(name: str, front: int, period: int, tail: int) -> None:
    scope, _, count = PERIODS[name]
    names = [node.name for node in models.build(name).nodes]
    first = next(i for i, n in enumerate(names) if n.startswith(scope.format(0)))
    assert first == front
    assert len(names) == front + count * period + tail


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("wenet_encoder", {"Pow": 61, "MatMul": 146, "Conv": 38, "Softmax": 12, "TopK": 1}),
        ("wenet_encoder", {"Slice": 3, "Relu": 2, "Range": 1, "Split": 12, "LogSoftmax": 1}),
        ("wenet_decoder", {"Pow": 19, "MatMul": 85, "Softmax": 12, "Tile": 2, "LogSoftmax": 1}),
        ("wenet_decoder", {"And": 1, "LessOrEqual": 1, "GatherElements": 1, "ArgMax": 1}),
    ],
)
def test_census(name: str, expected: dict[str, int]) -> None:
    census = models.build(name).census()
    assert {op: census[op] for op in expected} == expected
    assert census["Where"] >= 4 * PERIODS[name][2]


@pytest.mark.parametrize(
    ("name", "size"), [("wenet_encoder", 143_306_916), ("wenet_decoder", 51_698_212)]
)
def test_bytes_of_weights(name: str, size: int) -> None:
    """Parameters and the position table, as in the published files."""
    floats = [t for t in models.build(name).initializers if t.dtype == np.float32]
    assert sum(t.nbytes for t in floats) == size
    (table,) = (t for t in floats if t.name.endswith(".pe"))
    assert table.shape == (1, 5000, 256)


@pytest.mark.parametrize("name", NAMES)
def test_mini_has_the_chains_and_names_of_full(name: str) -> None:
    scope, _, _ = PERIODS[name]
    layers = scope.split("{}")[0]

    def chain(size: models.Size) -> list[tuple[str, str]]:
        return [
            (n.op, n.name)
            for n in models.build(name, size).nodes
            if layers not in n.name or n.name.startswith((scope.format(0), scope.format(1)))
        ]

    assert chain("mini") == chain("full")


@pytest.mark.parametrize("name", NAMES)
def test_ports(name: str) -> None:
    graph = models.build(name)
    for ports, expected in zip((graph.inputs, graph.outputs), PORTS[name], strict=True):
        assert {p.name: (p.dtype, p.dims) for p in ports} == expected
    small = models.build(name, "mini")
    for port in [*small.inputs, *small.outputs]:
        full = {**PORTS[name][0], **PORTS[name][1]}[port.name]
        symbols = [d for d in port.dims if isinstance(d, str)]
        assert port.dtype == full[0]
        assert symbols == [d for d in full[1] if isinstance(d, str)]


def test_fixed_width_of_hypotheses(tmp_path: Path) -> None:
    graph = models.build("wenet_decoder", tokens=64)
    assert graph.inputs[2].dims == ("B", 10, 64)
    assert graph.outputs[0].dims == ("B", 10, 63, 4233)
    assert graph.census() == models.build("wenet_decoder").census()
    with pytest.raises(ValueError, match="tokens is 1, but must be 2 to 5000"):
        models.build("wenet_decoder", tokens=1)
    feeds = models.feeds("wenet_decoder", (2, 16), size="mini")
    path = mini(tmp_path, "wenet_decoder", tokens=64)
    onnx.checker.check_model(onnx.load(path), full_check=True)
    check_decoder(feeds, run(path, feeds))


@pytest.mark.parametrize("name", NAMES)
def test_axes_of_unsqueeze_are_constants(name: str) -> None:
    graph = models.build(name)
    constants = {n.outputs[0] for n in graph.nodes if n.op == "Constant"}
    views = [n for n in graph.nodes if n.op in ("Unsqueeze", "Squeeze")]
    assert all(n.inputs[1] in constants for n in views)
    older = models.build(name, opset=12).nodes
    assert all("axes" in n.attributes for n in older if n.op in ("Unsqueeze", "Squeeze"))


@pytest.mark.parametrize("name", NAMES)
def test_bias_is_the_first_operand(name: str) -> None:
    graph = models.build(name)
    producers = {value: node for node in graph.nodes for value in node.outputs}
    weights = {t.name for t in graph.initializers}
    linears = [
        n
        for n in graph.nodes
        if n.op == "Add" and (p := producers.get(n.inputs[1])) and p.op == "MatMul"
        if p.inputs[1] in weights
    ]
    assert len(linears) == {"wenet_encoder": 12 * 8 + 2, "wenet_decoder": 6 * 10 + 1}[name]
    assert all(n.inputs[0].endswith(".bias") for n in linears)


def test_bool_slices() -> None:
    """Not, Slice, Slice: the mask of bools is thinned twice, [:-2:2] each time."""
    graph = models.build("wenet_encoder")
    producers = {value: node for node in graph.nodes for value in node.outputs}
    slices = {n.outputs[0]: n for n in graph.nodes if n.op == "Slice"}
    second = next(n for n in slices.values() if n.inputs[0] in slices)
    first = producers[second.inputs[0]]
    for node in (first, second):
        bounds = [producers[value].attributes["value"] for value in node.inputs[1:]]
        assert [int(b[0]) for b in bounds] == [0, -2, 2, 2]
    assert producers[first.inputs[0]].op == "Not"


@pytest.mark.parametrize("name", NAMES)
def test_masked_softmax_fills_before_and_after(name: str) -> None:
    graph = models.build(name, "mini")
    producers = {value: node for node in graph.nodes for value in node.outputs}
    readers = {value: node for node in graph.nodes for value in node.inputs}
    softmaxes = [n for n in graph.nodes if n.op == "Softmax"]
    assert len(softmaxes) == {"wenet_encoder": 2, "wenet_decoder": 4}[name]
    for node in softmaxes:
        before, after = producers[node.inputs[0]], readers[node.outputs[0]]
        assert before.op == after.op == "Where"
        values = [producers[where.inputs[1]].attributes["value"] for where in (before, after)]
        assert values == [-np.inf, 0.0]


@pytest.mark.parametrize("name", NAMES)
def test_layernorm_as_one_op(name: str) -> None:
    census = models.build(name, opset=17, layernorm="op").census()
    assert census["LayerNormalization"] == {"wenet_encoder": 61, "wenet_decoder": 19}[name]
    assert census["Pow"] == 0


def test_position_table() -> None:
    table = _wenet.position_table(64)
    assert table.shape == (1, 5000, 64) and table.dtype == np.float32
    assert (table[0, 0] == np.tile([0.0, 1.0], 32)).all()
    np.testing.assert_allclose(table[0, 7, :2], [np.sin(7), np.cos(7)], rtol=1e-6)
    last = 7 * 10000.0 ** (-62 / 64)
    np.testing.assert_allclose(table[0, 7, 62:], [np.sin(last), np.cos(last)], rtol=1e-6)


# Files and values.


@pytest.mark.parametrize("name", NAMES)
def test_same_seed_same_bytes(name: str, tmp_path: Path) -> None:
    files = [mini(tmp_path, name, seed=seed).read_bytes() for seed in (5, 5, 6)]
    assert files[0] == files[1] != files[2]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("options", "tolerance"),
    [
        ({}, 0.0),
        ({"opset": 12}, 1e-5),
        ({"opset": 18}, 1e-5),
        ({"layernorm": "two_sub"}, 1e-5),
        ({"layernorm": "mul"}, 1e-5),
        ({"layernorm": "op", "opset": 17}, 1e-5),
        ({"weights": "fp16"}, 1e-1),
    ],
    ids=str,
)
def test_variants_agree(
    name: str, options: dict[str, Any], tolerance: float, tmp_path: Path
) -> None:
    feeds = models.feeds(name, (3, 31), size="mini", masked_row=True)
    plain = run(mini(tmp_path, name), feeds)
    path = mini(tmp_path, name, **options)
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    assert model.opset_import[0].version == options.get("opset", 13)
    for key, value in run(path, feeds).items():
        if value.dtype == np.float32:
            np.testing.assert_allclose(value, plain[key], atol=tolerance)
        elif tolerance < 1e-2:
            np.testing.assert_array_equal(value, plain[key])


@pytest.mark.parametrize(("frames", "after"), FRAMES)
def test_encoder_at_many_lengths(frames: int, after: int, tmp_path: Path) -> None:
    assert frames_after(frames) == after
    feeds = models.feeds("wenet_encoder", (3, frames), seed=frames, size="mini")
    out = run(mini(tmp_path, "wenet_encoder"), feeds)
    assert {key: value.shape for key, value in out.items()} == {
        "encoder_out": (3, after, 64),
        "encoder_out_lens": (3,),
        "ctc_log_probs": (3, after, 128),
        "beam_log_probs": (3, after, 10),
        "beam_log_probs_idx": (3, after, 10),
    }
    check_encoder(feeds["speech_lengths"], out)


def check_encoder(lengths: Any, out: dict[str, Any]) -> None:
    """Everything is finite; lengths, probabilities and the beam are as their names say."""
    assert all(np.isfinite(value).all() for value in out.values())
    frames = out["encoder_out"].shape[1]
    # The mask keeps frame 4 i of the input, as far as there are frames left.
    np.testing.assert_array_equal(
        out["encoder_out_lens"], np.minimum(-(-lengths // 4), frames).astype(np.int32)
    )
    log_probs = out["ctc_log_probs"]
    np.testing.assert_allclose(np.exp(log_probs).sum(axis=-1), 1, rtol=1e-4)
    best = np.take_along_axis(log_probs, out["beam_log_probs_idx"], axis=-1)
    np.testing.assert_array_equal(best, out["beam_log_probs"])
    np.testing.assert_array_equal(best, -np.sort(-log_probs, axis=-1)[..., :10])


def test_encoder_ignores_what_is_masked(tmp_path: Path) -> None:
    """What is beyond the length changes at most the last frame, whose convolution reaches it."""
    path = mini(tmp_path, "wenet_encoder")
    feeds = models.feeds("wenet_encoder", (1, 64), size="mini")
    feeds["speech_lengths"][:] = 41
    other = {key: value.copy() for key, value in feeds.items()}
    other["speech"][:, 48:] = 5.0
    first, second = (run(path, x)["encoder_out"] for x in (feeds, other))
    np.testing.assert_allclose(first[:, :11], second[:, :11], atol=1e-5)
    assert np.abs(first - second).max() > 1e-2


@pytest.mark.parametrize("batch", [1, 3])
def test_encoder_of_empty_speech(batch: int, tmp_path: Path) -> None:
    """Length 0: every row of the scores is masked, Softmax gives NaN and the second Where 0."""
    feeds = models.feeds("wenet_encoder", (batch, 64), size="mini", masked_row=True)
    assert feeds["speech_lengths"][-1] == 0
    out = run(mini(tmp_path, "wenet_encoder"), feeds)
    assert out["encoder_out_lens"][-1] == 0
    check_encoder(feeds["speech_lengths"], out)


def test_encoder_takes_loud_speech(tmp_path: Path) -> None:
    feeds = models.feeds("wenet_encoder", (2, 64), size="mini")
    feeds["speech"] *= 300
    check_encoder(feeds["speech_lengths"], run(mini(tmp_path, "wenet_encoder"), feeds))


@pytest.mark.parametrize("tokens", [2, 3, 9, 64])
@pytest.mark.parametrize("shape", [(1, 1), (1, 16), (3, 7)])
def test_decoder_at_many_shapes(shape: tuple[int, int], tokens: int, tmp_path: Path) -> None:
    feeds = models.feeds("wenet_decoder", shape, seed=tokens, size="mini", tokens=tokens)
    out = run(mini(tmp_path, "wenet_decoder"), feeds)
    assert out["decoder_out"].shape == (shape[0], 10, tokens - 1, 128)
    check_decoder(feeds, out)


def check_decoder(feeds: dict[str, Any], out: dict[str, Any]) -> None:
    """Everything is finite, and the best hypothesis follows from the probabilities."""
    log_probs = out["decoder_out"]
    assert np.isfinite(log_probs).all()
    np.testing.assert_allclose(np.exp(log_probs).sum(axis=-1), 1, rtol=1e-4)
    asked = feeds["hyps_pad_sos_eos"][:, :, 1:]
    valid = np.arange(asked.shape[2]) < feeds["hyps_lens_sos"][..., None]
    found = np.take_along_axis(log_probs, (asked * valid)[..., None], axis=-1)[..., 0]
    score = (found * valid).sum(axis=-1) + 0.5 * feeds["ctc_score"]
    assert out["best_index"].dtype == np.int64
    np.testing.assert_array_equal(out["best_index"], score.argmax(axis=1))


def test_decoder_of_empty_rows(tmp_path: Path) -> None:
    """Neither frames nor tokens: both attentions are fully masked, and all stays finite."""
    feeds = models.feeds("wenet_decoder", (2, 16), size="mini", masked_row=True)
    assert feeds["encoder_out_lens"][-1] == 0 and not feeds["hyps_lens_sos"][-1].any()
    out = run(mini(tmp_path, "wenet_decoder"), feeds)
    check_decoder(feeds, out)
    # Nothing can be told apart but the first token and the places.
    assert out["best_index"][-1] == feeds["ctc_score"][-1].argmax()


def test_decoder_is_causal_and_masks_memory(tmp_path: Path) -> None:
    path = mini(tmp_path, "wenet_decoder")
    feeds = models.feeds("wenet_decoder", (2, 16), size="mini")
    feeds["hyps_lens_sos"][:] = 63
    feeds["encoder_out_lens"][:] = 9
    other = {key: value.copy() for key, value in feeds.items()}
    other["hyps_pad_sos_eos"][:, :, 20:] = 3
    other["encoder_out"][:, 9:] = 5.0
    first, second = (run(path, x)["decoder_out"] for x in (feeds, other))
    np.testing.assert_allclose(first[:, :, :20], second[:, :, :20], atol=1e-5)
    assert np.abs(first[:, :, 20:] - second[:, :, 20:]).max() > 1e-3


def test_decoder_keeps_samples_and_hypotheses_apart(tmp_path: Path) -> None:
    path = mini(tmp_path, "wenet_decoder")
    feeds = models.feeds("wenet_decoder", (3, 16), size="mini")
    whole = run(path, feeds)
    for row in range(3):
        alone = run(path, {key: value[row : row + 1] for key, value in feeds.items()})
        np.testing.assert_allclose(alone["decoder_out"][0], whole["decoder_out"][row], atol=1e-5)
        assert alone["best_index"][0] == whole["best_index"][row]


def test_full_encoder_runs(tmp_path: Path) -> None:
    path = tmp_path / "full.onnx"
    models.write("wenet_encoder", path)
    feeds = models.feeds("wenet_encoder", (2, 64), masked_row=True)
    out = run(path, feeds)
    path.unlink()
    assert out["ctc_log_probs"].shape == (2, 15, 4233)
    check_encoder(feeds["speech_lengths"], out)


def test_full_decoder_runs(tmp_path: Path) -> None:
    path = tmp_path / "full.onnx"
    models.write("wenet_decoder", path)
    feeds = models.feeds("wenet_decoder", (1, 16))
    out = run(path, feeds)
    path.unlink()
    assert out["decoder_out"].shape == (1, 10, 63, 4233)
    check_decoder(feeds, out)


# Feeds and arguments.


def test_encoder_feeds_follow_the_rules() -> None:
    feeds = models.feeds("wenet_encoder", (16, 64), seed=2)
    speech, lengths = feeds["speech"], feeds["speech_lengths"]
    assert (speech.dtype, speech.shape) == (np.float32, (16, 64, 80))
    assert (lengths.dtype, lengths.shape) == (np.int32, (16,))
    assert -1 <= speech.min() < -0.99 and 0.99 < speech.max() < 1
    assert lengths.min() >= 1 and lengths.max() < 64 and len(set(lengths)) > 3


@pytest.mark.parametrize("seed", range(5))
def test_decoder_feeds_follow_the_rules(seed: int) -> None:
    feeds = models.feeds("wenet_decoder", (4, 16), seed=seed)
    shapes = {key: (value.dtype.name, value.shape) for key, value in feeds.items()}
    assert shapes == {
        "encoder_out": ("float32", (4, 16, 256)),
        "encoder_out_lens": ("int32", (4,)),
        "hyps_pad_sos_eos": ("int64", (4, 10, 64)),
        "hyps_lens_sos": ("int32", (4, 10)),
        "ctc_score": ("float32", (4, 10)),
    }
    assert 1 <= feeds["encoder_out_lens"].min() <= feeds["encoder_out_lens"].max() < 16
    ids, lengths = feeds["hyps_pad_sos_eos"], feeds["hyps_lens_sos"]
    assert (ids.min(), ids.max()) == (0, 9)
    assert lengths.min() == 0 < lengths.max() < 10
    assert np.abs(feeds["ctc_score"]).max() <= 1


@pytest.mark.parametrize("name", NAMES)
def test_feeds_repeat(name: str) -> None:
    first, again, other = (models.feeds(name, (2, 16), seed=s, size="mini") for s in (1, 1, 2))
    for key in first:
        np.testing.assert_array_equal(first[key], again[key])
    assert any((first[key] != other[key]).any() for key in first)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"opset": 11}, "needs opset 12 or later, not 11"),
        ({"opset": 19}, "opset is 19"),
        ({"layernorm": "op"}, "needs opset 17 or later, not 13"),
        ({"layernorm": "fused"}, "layernorm is 'fused'"),
        ({"weights": "int8"}, "weights is 'int8'"),
        ({"size": "tiny"}, "size is 'tiny'"),
        ({"beam": 4}, "has no option 'beam'; the options are layernorm, weights"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_bad_arguments(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        models.build(**{"name": name, "size": "mini", **options})


@pytest.mark.parametrize(
    ("name", "shape", "options", "message"),
    [
        ("wenet_encoder", (1, 6), {}, "shape is .* 7 <= frames"),
        ("wenet_encoder", (0, 16), {}, "shape is"),
        ("wenet_encoder", (4,), {}, "shape is"),
        ("wenet_decoder", (1, 0), {}, "shape is"),
        ("wenet_decoder", (1,), {}, "shape is"),
        ("wenet_decoder", (1, 4), {"tokens": 1}, "tokens is 1, but must be 2 to 5000"),
    ],
)
def test_bad_feeds(
    name: str, shape: tuple[int, ...], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        models.feeds(name, shape, **options)

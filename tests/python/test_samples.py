"""Pictures read at places of a run, regions and LRN: kernels beside ONNX Runtime, no reference."""

from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

import planck

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")
helper = onnx.helper
node = helper.make_node
RNG = np.random.default_rng(5)
DEFORMABLE = Path(__file__).parent / "data" / "deformable_attention.onnx"


def model_of(nodes, shapes, constants=None, opset=20):
    """A model of float32 inputs of these shapes (names are symbols), and int64 "pictures"."""
    ports = [
        helper.make_tensor_value_info(n, 7 if n == "pictures" else 1, s) for n, s in shapes.items()
    ]
    out = helper.make_tensor_value_info(nodes[-1].output[0], 1, None)
    tensors = [onnx.numpy_helper.from_array(v, n) for n, v in (constants or {}).items()]
    graph = helper.make_graph(nodes, "g", ports, [out], tensors)
    opsets = [helper.make_opsetid("", opset)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9).SerializeToString()


def normal(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def families(plan):
    return Counter(step.family for step in plan.steps)


def assert_as_onnx_runtime(plan, model, feeds, tolerance=2e-5):
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    (want,) = session.run(None, feeds)
    (got,) = plan.run(feeds).values()
    assert got.shape == want.shape
    np.testing.assert_allclose(got, want, rtol=0, atol=tolerance * max(1, np.abs(want).max()))


@pytest.mark.parametrize(
    ("mode", "padding", "align"),
    list(itertools.product(["linear", "nearest"], ["zeros", "border", "reflection"], [0, 1])),
)
@pytest.mark.parametrize("channels_last", [False, True])
def test_grid_sample_of_any_shape(mode, padding, align, channels_last):
    sample = node(
        "GridSample", ["x", "grid"], ["y"], mode=mode, padding_mode=padding, align_corners=align
    )
    shape, nodes = ["N", 5, "H", "W"], [sample]
    if channels_last:
        shape = ["N", "H", "W", 5]
        sample.input[0] = "turned"
        nodes = [node("Transpose", ["x"], ["turned"], perm=[0, 3, 1, 2]), sample]
    model = model_of(nodes, {"x": shape, "grid": ["N", "P", "Q", 2]})
    plan = planck.build(model, fallback="error")
    assert families(plan)["grid_sample"] == 1
    for n, h, w, p, q in [(2, 6, 7, 4, 9), (1, 1, 1, 3, 2), (1, 9, 4, 1, 40)]:
        x = normal(n, h, w, 5) if channels_last else normal(n, 5, h, w)
        grid = RNG.uniform(-1.4, 1.4, (n, p, q, 2)).astype(np.float32)
        assert_as_onnx_runtime(plan, model, {"x": x, "grid": grid})


def test_grid_sample_of_no_places():
    model = model_of(
        [node("GridSample", ["x", "g"], ["y"])], {"x": "NCHW", "g": ["N", "P", "Q", 2]}
    )
    plan = planck.build(model, fallback="error")
    nowhere = np.array([np.nan, np.inf, -np.inf, 1e30, -1e30, 3e38], np.float32)
    grid = np.stack(np.meshgrid(nowhere, [0, *nowhere]), -1).astype(np.float32)[None]
    (y,) = plan.run({"x": normal(1, 3, 4, 5), "g": grid}).values()
    np.testing.assert_array_equal(y, 0)
    assert next(iter(plan.run({"x": normal(1, 3, 4, 5), "g": grid[:, :0]}).values())).size == 0
    with pytest.raises(planck.RunError, match="nothing to sample"):
        plan.run({"x": normal(1, 3, 0, 5), "g": grid})
    with pytest.raises(planck.Error):
        plan.run({"x": normal(2, 3, 4, 5), "g": grid})


def test_what_stays_on_the_reference_says_why():
    for mode, rank, why in [("cubic", 4, "cubic"), ("linear", 5, "two axes")]:
        sample = node("GridSample", ["x", "g"], ["y"], mode=mode)
        shapes = {"x": [1, 2, *[4] * (rank - 2)], "g": [1, *[3] * (rank - 2), rank - 2]}
        plan = planck.build(model_of([sample], shapes))
        assert families(plan) == {"reference": 1}
        assert why in plan.explain()


@pytest.mark.parametrize("dims", [{}, {"B": 1}, {"B": 1, "Q": 7}])
def test_deformable_attention_as_torch_exports_it(dims):
    model = DEFORMABLE.read_bytes()
    plan = planck.build(model, fallback="error", dims=dims)
    kinds = families(plan)
    assert kinds["grid_sample"] == 2
    assert kinds["reference"] == 0
    # Grids are copied where heads lie beside a batch, pictures nowhere.
    assert kinds["copy"] <= (5 if "B" in dims else 8)
    for batch, count in [(dims.get("B", 2), 7), (1, dims.get("Q", 30))]:
        feeds = {
            "queries": 3 * normal(batch, count, 16),
            "memory": normal(batch, 60, 16),
            "boxes": RNG.uniform(0, 1, (batch, count, 2, 4)).astype(np.float32),
        }
        assert_as_onnx_runtime(plan, model, feeds)


REGIONS = np.array(
    [[0, 0, 9, 9], [2, 1, 4, 5.5], [-3, -2, 20, 8], [3, 3, 3, 3], [5, 6, 4, 2]], np.float32
)


@pytest.mark.parametrize("mode", ["avg", "max"])
@pytest.mark.parametrize("coordinates", ["half_pixel", "output_half_pixel"])
@pytest.mark.parametrize("ending", ["", "Conv", "Flatten"])
def test_regions_of_any_shape(mode, coordinates, ending):
    align = node(
        "RoiAlign",
        ["h", "r", "pictures"],
        ["y"],
        mode=mode,
        coordinate_transformation_mode=coordinates,
        output_height=3,
        output_width=2,
        sampling_ratio=1 if mode == "max" else 2,  # of more, ONNX Runtime takes another largest
        spatial_scale=0.5,
    )
    nodes = [node("Conv", ["x", "w"], ["h"]), align]
    if ending:
        nodes.append(node(ending, ["y", "v"] if ending == "Conv" else ["y"], ["z"]))
    shapes = {"x": ["N", 3, "H", "W"], "r": ["R", 4], "pictures": ["R"]}
    constants = {"w": normal(6, 3, 1, 1), "v": normal(4, 6, 2, 2)}
    if ending != "Conv":
        del constants["v"]
    model = model_of(nodes, shapes, constants, opset=16)
    plan = planck.build(model, fallback="error")
    assert families(plan)["roi_align"] == 1
    for n, h, w in [(2, 8, 9), (1, 1, 5)]:
        feeds = {"x": normal(n, 3, h, w), "r": 2 * REGIONS, "pictures": np.arange(5) % n}
        assert_as_onnx_runtime(plan, model, feeds)


def test_regions_that_are_none():
    align = node("RoiAlign", ["x", "r", "pictures"], ["y"])
    shapes = {"x": ["N", 3, "H", "W"], "r": ["R", 4], "pictures": ["R"]}
    plan = planck.build(model_of([align], shapes, opset=16), fallback="error")
    x, pictures = normal(2, 3, 5, 5), np.zeros(5, np.int64)
    for bad in (np.nan, np.inf, 1e30):
        regions = REGIONS.copy()
        regions[3, 2] = bad
        with pytest.raises(planck.RunError, match=r"region 3 of .* too large"):
            plan.run({"x": x, "r": regions, "pictures": pictures})
    for bad in (-1, 2, 2**62):
        with pytest.raises(planck.RunError, match=f"picture {bad} of region 4 is outside"):
            plan.run({"x": x, "r": REGIONS, "pictures": np.array([0, 0, 1, 1, bad])})
    empty = {"x": x, "r": REGIONS[:0], "pictures": pictures[:0]}
    assert next(iter(plan.run(empty).values())).shape == (0, 3, 1, 1)


@pytest.mark.parametrize("after_convolution", [False, True])
@pytest.mark.parametrize(("size", "beta"), [(5, 0.75), (3, 0.6), (51, 0.75)])
def test_lrn_of_any_shape(after_convolution, size, beta):
    lrn = node("LRN", ["h"], ["y"], size=size, beta=beta, alpha=0.5, bias=1.5)
    nodes, constants = [node("Conv", ["x", "w"], ["h"]), lrn], {"w": normal(20, 4, 3, 3)}
    if not after_convolution:
        nodes, constants = [lrn], {}
        lrn.input[0] = "x"
    model = model_of(nodes, {"x": ["N", 4, "H", "W"]}, constants)
    plan = planck.build(model, fallback="error")
    assert families(plan)["lrn"] == 1
    for shape in [(2, 4, 7, 6), (1, 4, 3, 3), (1, 4, 30, 9)]:
        assert_as_onnx_runtime(plan, model, {"x": normal(*shape)})


def test_plan_files_keep_all_three(tmp_path):
    nodes = [
        node("LRN", ["x"], ["a"], size=3, beta=0.5),
        node("GridSample", ["a", "g"], ["b"], mode="nearest", padding_mode="border"),
        node("RoiAlign", ["b", "r", "pictures"], ["y"], mode="max", output_height=2),
    ]
    shapes = {"x": "NCHW", "g": ["N", "P", "Q", 2], "r": ["R", 4], "pictures": ["R"]}
    plan = planck.build(model_of(nodes, shapes), fallback="error")
    plan.save(tmp_path / "plan")
    loaded = planck.load(tmp_path / "plan", verify=True)
    feeds = {
        "x": normal(1, 6, 5, 5),
        "g": RNG.uniform(-1.2, 1.2, (1, 9, 8, 2)).astype(np.float32),
        "r": REGIONS,
        "pictures": np.zeros(5, np.int64),
    }
    np.testing.assert_array_equal(loaded.run(feeds)["y"], plan.run(feeds)["y"])

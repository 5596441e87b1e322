"""Resize: every mode, rounding and coordinate rule, by scales and by sizes."""

from typing import Any

import numpy as np
from harness import Case, ints, normal

X = normal(1, 2, 4, 5)
PLANE = normal(3, 4)


def floats(*values: float) -> Any:
    return np.array(values, np.float32)


UP, DOWN = floats(1, 1, 2, 3), floats(1, 1, 0.6, 0.4)
MODES = ["nearest", "linear", "cubic"]
COORDINATES = [
    "half_pixel",
    "half_pixel_symmetric",
    "pytorch_half_pixel",
    "align_corners",
    "asymmetric",
]
ROUNDINGS = ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"]


def by_scales(name: str, scales: Any, **attrs: Any) -> Case:
    return Case(name, "Resize", [X, None, scales], attrs)


def by_sizes(name: str, *sizes: int, **attrs: Any) -> Case:
    return Case(name, "Resize", [PLANE, None, None, ints(*sizes)], attrs)


def refused(name: str, fails: str, *inputs: Any, **attrs: Any) -> Case:
    return Case(name, "Resize", [X, *inputs], attrs, fails=fails)


CASES = [
    *[
        by_scales(f"{mode}_{where}_{side}", scales, mode=mode, coordinate_transformation_mode=where)
        for mode in MODES
        for where in COORDINATES
        for side, scales in [("up", UP), ("down", DOWN)]
    ],
    *[by_sizes(f"nearest_{r}", 7, 6, nearest_mode=r) for r in ROUNDINGS],
    *[
        by_scales(f"repeat_{r}", UP, nearest_mode=r, coordinate_transformation_mode="asymmetric")
        for r in ROUNDINGS
    ],
    *[by_scales(f"antialias_{mode}", DOWN, mode=mode, antialias=1) for mode in MODES[1:]],
    *[by_scales(f"outside_{mode}", UP, mode=mode, exclude_outside=1) for mode in MODES[1:]],
    by_scales("coefficient", UP, mode="cubic", cubic_coeff_a=-0.5),
    by_sizes("linear_sizes", 5, 2, mode="linear"),
    *[
        by_sizes(f"{policy}_{mode}", 7, 6, mode=mode, keep_aspect_ratio_policy=policy)
        for policy in ["not_larger", "not_smaller"]
        for mode in MODES
    ],
    by_scales("almost_twice", floats(1, 1, 2.1, 2), coordinate_transformation_mode="asymmetric"),
    Case("sequence", "Resize", [normal(2, 20, 9), None, floats(1, 1, 1.5)], {"mode": "linear"}),
    Case(
        "channels",
        "Resize",
        [normal(1, 33, 4, 3), None, None, ints(1, 33, 7, 7)],
        {"mode": "cubic"},
    ),
    by_scales("axes", floats(2, 3), axes=[2, 3], mode="linear"),
    by_scales("swapped_axes", floats(3, 2), axes=[3, 2]),
    Case("ints", "Resize", [(9 * X).astype(np.int32), None, UP]),
    Case("bools", "Resize", [X > 0, None, UP], {"nearest_mode": "ceil"}, not_onnx="takes no bools"),
    Case("batch", "Resize", [normal(3, 2, 4, 5), None, floats(1, 1, 2, 2)]),
    *[
        Case(
            f"crop_{mode}",
            "Resize",
            [PLANE, floats(0.4, -0.2, 0.9, 1.2), None, ints(4, 5)],
            {
                "mode": mode,
                "coordinate_transformation_mode": "tf_crop_and_resize",
                "extrapolation_value": 10.0,
            },
        )
        for mode in MODES
    ],
    refused("neither", "either scales or sizes", None, None),
    refused("both", "either scales or sizes", None, UP, ints(1, 2, 3, 4)),
    refused("count", "2 scales for 4 axes", None, floats(2, 2)),
    refused("zero", "the scale 0", None, floats(1, 1, 0, 1)),
    refused("negative", "the size -1|negative", None, None, ints(1, 2, -1, 4)),
    refused("mode", "mode 'area'", None, UP, mode="area"),
    refused("rounding", "nearest_mode 'up'", None, UP, nearest_mode="up"),
    refused("huge", "max_tensor_bytes", None, None, ints(2**20, 2, 2**20, 4)),
]

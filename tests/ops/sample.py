"""GridSample and RoiAlign: every mode, places outside, and what cannot be."""

import numpy as np
from harness import Case, ints, normal

X, VOLUME = normal(2, 3, 4, 5), normal(1, 2, 3, 4, 2)
GRID = (1.6 * normal(2, 3, 4, 2, seed=4)).clip(-2.4, 2.4)
CUBE = (0.8 * normal(1, 2, 3, 2, 3, seed=5)).clip(-1.4, 1.4)
NAN = np.array([np.nan, np.inf, -np.inf, 0], np.float32).reshape(1, 1, 2, 2)
MODES = ["nearest", "linear", "cubic"]
PADDINGS = ["zeros", "border", "reflection"]
REGIONS = np.array([[0, 0, 3, 3], [1, 0.5, 4.5, 2], [-3, -2, 9, 8], [2, 2, 2, 2]], np.float32)
PICTURES = ints(0, 1, 1, 0)
CELLS = {"output_height": 2, "output_width": 3}
OLD = {"coordinate_transformation_mode": "output_half_pixel"}

CASES = [
    *[
        Case(
            f"{m}_{p}_{a}",
            "GridSample",
            [X, GRID],
            {"mode": m, "padding_mode": p, "align_corners": a},
        )
        for m in MODES
        for p in PADDINGS
        for a in (0, 1)
    ],
    Case("volume", "GridSample", [VOLUME, CUBE]),
    Case("volume_nearest", "GridSample", [VOLUME, CUBE], {"mode": "nearest"}),
    Case("volume_border", "GridSample", [VOLUME, CUBE], {"padding_mode": "border"}),
    Case("empty", "GridSample", [X, GRID[:, :0]], not_onnx="it loses the shape"),
    Case("nowhere", "GridSample", [X[:1], NAN], not_onnx="it converts NaN to an index"),
    Case(
        "mode", "GridSample", [X, GRID], {"mode": "area"}, fails="mode is 'area', expected one of"
    ),
    Case("axes", "GridSample", [X, GRID[..., :1]], fails="expected 2 coordinates"),
    Case("batch", "GridSample", [X, GRID[:1]], fails="the grid is"),
    *[
        Case(
            f"{m}_{n}",
            "RoiAlign",
            [X, REGIONS, PICTURES],
            {**CELLS, "mode": m, "sampling_ratio": n},
        )
        for m in ("avg", "max")
        for n in (0, 1, 3)
    ],
    Case("old", "RoiAlign", [X, REGIONS, PICTURES], {**CELLS, **OLD}),
    Case("scale", "RoiAlign", [X, REGIONS * 4, PICTURES], {"spatial_scale": 0.25}),
    Case("picture", "RoiAlign", [X, REGIONS, PICTURES + 1], fails="picture 2 is outside"),
    Case("regions", "RoiAlign", [X, REGIONS[:, :3], PICTURES], fails="the regions are"),
    Case("large", "RoiAlign", [X, REGIONS * 1e30, PICTURES], fails="is too large"),
    Case("cells", "RoiAlign", [X, REGIONS, PICTURES], {"output_width": 0}, fails="at least 1 x 1"),
]

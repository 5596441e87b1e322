"""Our ops that only name a shape; here with numbers, with symbols in tests/cpp/ops_test.cpp."""

from harness import Case, normal

X = normal(2, 6)

CASES = [
    Case("numbers", "planck.View", [X], {"shape": [3, 4]}),
    Case("count", "planck.View", [X], {"shape": [5]}, fails="no view"),
    Case("part", "planck.Crop", [X], {"axes": [1], "starts": [1], "ends": [6], "steps": [2]}),
    Case(
        "beyond",
        "planck.Crop",
        [X],
        {"axes": [1], "starts": [1], "ends": [7], "steps": [1]},
        fails="beyond",
    ),
    Case(
        "step",
        "planck.Crop",
        [X],
        {"axes": [1], "starts": [0], "ends": [1], "steps": [0]},
        fails="at least 1",
    ),
    Case("lists", "planck.Crop", [X], {"axes": [1]}, fails="differ in length"),
    Case("rows", "planck.Broadcast", [normal(1, 6)], {"shape": [2, 3, 6]}),
    Case("narrower", "planck.Broadcast", [X], {"shape": [1, 6]}, fails="does not broadcast"),
    Case("number", "planck.Fill", [], {"shape": [2, 3], "value": 2.5}),
    Case("type", "planck.Fill", [], {"shape": [2], "dtype": 99}, fails="names the ONNX type 99"),
]

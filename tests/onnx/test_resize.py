"""ONNX's cases of Resize and Upsample with what decides the shape as constants of the model.

The suite itself feeds scales and sizes at run time, where the shape would depend on data.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

import planck

onnx = pytest.importorskip("onnx")


def resize_cases() -> list[Any]:
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cases = collect_testcases(None)
    return [case for case in cases if "resize" in case.name or "upsample" in case.name]


CASES = resize_cases()


def test_there_are_cases() -> None:
    assert len(CASES) >= 40


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_resize(case: Any) -> None:
    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    inputs, expected = case.data_sets[0]
    x, *constants = list(model.graph.input)
    del model.graph.input[1:]
    for value, data in zip(constants, inputs[1:], strict=True):
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(data), value.name))
    (y,) = planck.build(model.SerializeToString()).run({x.name: inputs[0]}).values()
    np.testing.assert_allclose(y, expected[0], rtol=1e-5, atol=1e-6)

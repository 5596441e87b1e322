"""Einsum becomes transposes, sums and products: NumPy judges, on fixed and on symbolic extents."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import planck

onnx = pytest.importorskip("onnx")
helper = onnx.helper

# Equation and shapes of its inputs.
CASES: dict[str, list[tuple[int, ...]]] = {
    "ij,jk->ik": [(3, 4), (4, 5)],
    "ij,jk": [(3, 4), (4, 5)],
    "ij,kj->ki": [(3, 4), (5, 4)],
    "bij,bjk->bik": [(2, 3, 4), (2, 4, 5)],
    "bhid,bhjd->bhij": [(2, 3, 4, 6), (2, 3, 5, 6)],
    "bhij,bhjd->bihd": [(2, 3, 4, 5), (2, 3, 5, 6)],
    "...ij,...jk->...ik": [(2, 3, 4, 5), (3, 5, 6)],
    "...ij,...jk": [(1, 3, 4, 5), (2, 1, 5, 6)],
    "abc,cd->abd": [(2, 3, 4), (4, 5)],
    "btd,dhk->bthk": [(2, 3, 6), (6, 4, 5)],
    "bthk,hkd->btd": [(2, 3, 4, 5), (4, 5, 6)],
    "i,j->ij": [(3,), (4,)],
    "i,i->": [(4,), (4,)],
    "i,i->i": [(4,), (4,)],
    "ij->ji": [(3, 4)],
    "ij->": [(3, 4)],
    "ij->j": [(3, 4)],
    "ba": [(3, 4)],
    "...->...": [(3, 4)],
    "i,ij,j->": [(3,), (3, 4), (4,)],
    "ij,jk,kl->il": [(2, 3), (3, 4), (4, 5)],
    "b c h w, c d -> b d h w": [(2, 3, 4, 5), (3, 6)],
    "ijk,jl->il": [(3, 4, 5), (4, 6)],
    "nctkv,kvw->nctw": [(2, 3, 4, 2, 5), (2, 5, 5)],
}
DIAGONALS = {"ii->i": [(4, 4)], "ii->": [(4, 4)], "...ii->...i": [(2, 3, 4, 4)], "iij,j->i": [(3, 3, 4), (4,)]}  # fmt: skip # noqa: E501


def model(equation: str, shapes: list[tuple[Any, ...]], element: int = 1) -> bytes:
    names = [f"x{i}" for i in range(len(shapes))]
    node = helper.make_node("Einsum", names, ["y"], "einsum", equation=equation)
    inputs = [
        helper.make_tensor_value_info(name, element, shape)
        for name, shape in zip(names, shapes, strict=True)
    ]
    y = helper.make_tensor_value_info("y", element, None)
    graph = helper.make_graph([node], "einsum", inputs, [y])
    data: bytes = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    ).SerializeToString()
    return data


def arrays(shapes: list[tuple[int, ...]]) -> dict[str, Any]:
    random = np.random.default_rng(1)
    return {f"x{i}": random.standard_normal(s).astype(np.float32) for i, s in enumerate(shapes)}


def check(equation: str, shapes: list[tuple[int, ...]], declared: list[tuple[Any, ...]]) -> Any:
    feeds = arrays(shapes)
    plan = planck.build(model(equation, declared))
    got = plan.run(feeds)["y"]
    want = np.einsum(equation, *[array.astype(np.float64) for array in feeds.values()])
    assert got.shape == want.shape and got.dtype == np.float32
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)
    return plan


@pytest.mark.parametrize("equation", [*CASES, *DIAGONALS])
def test_fixed_extents(equation: str) -> None:
    shapes = (CASES | DIAGONALS)[equation]
    check(equation, shapes, list(shapes))


@pytest.mark.parametrize("equation", CASES)
def test_symbols(equation: str) -> None:
    """Every extent is a symbol, but those of an ellipsis."""
    shapes = CASES[equation]
    terms = equation.replace(" ", "").split("->")[0].split(",")
    declared: list[tuple[Any, ...]] = []
    for term, shape in zip(terms, shapes, strict=True):
        letters = term.replace("...", "")
        declared.append((*shape[: len(shape) - len(letters)], *letters))
    check(equation, shapes, declared)


def test_it_is_a_product_with_a_kernel() -> None:
    plan = check("bhid,bhjd->bhij", CASES["bhid,bhjd->bhij"], CASES["bhid,bhjd->bhij"])
    assert all(step.family != "reference" for step in plan.steps)
    planck.build(model("bij,bjk->bik", CASES["bij,bjk->bik"]), fallback="error")


def test_integers() -> None:
    plan = planck.build(model("ij,jk->ik", [(2, 3), (3, 2)], onnx.TensorProto.INT32))
    x = np.arange(6, dtype=np.int32)
    got = plan.run({"x0": x.reshape(2, 3), "x1": x.reshape(3, 2)})["y"]
    np.testing.assert_array_equal(got, x.reshape(2, 3) @ x.reshape(3, 2))


@pytest.mark.parametrize(
    ("equation", "shapes", "text"),
    [
        ("ij,jk->ik", [(3, 4)], "2 terms for 1 inputs"),
        ("ijk->i", [(3, 4)], "'ijk' is for a tensor of rank 2"),
        ("i->i", [(3, 4)], "'i' is for a tensor of rank 2"),
        ("ij->k", [(3, 4)], "label 'k' must be that of an input"),
        ("ij->ii", [(3, 4)], "come once"),
        ("i1->i", [(3, 4)], "there is no label '1'"),
    ],
)
def test_equations_that_do_not_fit(equation: str, shapes: list[tuple[int, ...]], text: str) -> None:
    with pytest.raises(planck.GraphError, match=text) as error:
        planck.build(model(equation, list(shapes)))
    assert error.value.node == "einsum"


def test_diagonals_need_known_extents() -> None:
    with pytest.raises(planck.UnsupportedError, match="must be known and equal"):
        planck.build(model("ii->i", [("n", "n")]))

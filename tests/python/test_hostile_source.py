"""A plan's source graph that lies: compare and taps give a typed error, whatever it says.

The graph is patched in place in the plan file and the hashes are mended, as an attacker would.
"""

from __future__ import annotations

import numpy as np
import pytest

import planck
from planck import _core

parser = pytest.importorskip("onnx.parser")

FEEDS = {"x": np.array([[1, -2, 3], [-4, 5, -6]], np.float32)}
# Values are numbered by first appearance: x 0, a 1, s 2, b 3, i 4, c 5, d 6, y 7. No buffer of the
# plan holds d.
TEXT = """<ir_version: 8, opset_import: ["" : 17]>
hostile (float[N,3] x) => (float[M,2] y)
<int64[2] s = {3, 2}, int64[1] i = {1}>
{
  a = Relu(x)
  b = Reshape(a, s)
  c = Gather<axis = 1>(b, i)
  d = Sigmoid(c)
  y = Mul(b, d)
}"""


def cbor_text(text: str) -> bytes:
    """Up to 23 bytes, or 24 to 255."""
    head = bytes([0x60 + len(text)]) if len(text) < 24 else bytes([0x78, len(text)])
    return head + text.encode()


def ids(*numbers: int) -> bytes:
    return bytes([0x80 + len(numbers), *numbers])


def reads(*numbers: int) -> bytes:
    return cbor_text("in") + ids(*numbers)


def writes(*numbers: int) -> bytes:
    return cbor_text("out") + ids(*numbers)


def value(dims: bytes, dtype: str, name: str) -> bytes:
    fields = (cbor_text("dims"), dims, cbor_text("dtype"), cbor_text(dtype))
    return b"".join((*fields, cbor_text("name"), cbor_text(name)))


def int64s(*numbers: int) -> bytes:
    return np.array(numbers, np.int64).tobytes()


N3 = bytes([0x82]) + cbor_text("N") + b"\3"
N4 = bytes([0x82]) + cbor_text("N") + b"\4"
BROKEN: dict[str, tuple[bytes, bytes]] = {
    "a node reads itself": (reads(0), reads(1)),
    "a cycle": (reads(0), reads(7)),
    "the wrong order": (reads(1, 2), reads(5, 2)),
    "two producers": (writes(3), writes(1)),
    "an input is produced": (writes(3), writes(0)),
    "a weight is produced": (writes(3), writes(2)),
    "an id out of range": (reads(1, 2), reads(23, 2)),
}
# What inference and evaluation find; taps that evaluate nothing need not.
LIES: dict[str, tuple[bytes, bytes]] = {
    "a required input is absent": (reads(1, 2), reads(1, 0x20)),
    "another type of a value": (value(N3, "f32", "a"), value(N3, "s32", "a")),
    "another width of a value": (value(ids(3, 2), "f32", "b"), value(ids(3, 2), "f64", "b")),
    "another extent of a value": (value(ids(3, 2), "f32", "b"), value(ids(3, 4), "f32", "b")),
    "another type of an input": (value(N3, "f32", "x"), value(N3, "s32", "x")),
    "another extent of an input": (value(N3, "f32", "x"), value(N4, "f32", "x")),
    "another type of what vanished": (value(ids(3, 1), "f32", "d"), value(ids(3, 1), "s64", "d")),
    "another extent of what vanished": (value(ids(3, 1), "f32", "d"), value(ids(3, 2), "f32", "d")),
    "integers that are floats": (value(ids(2), "s64", "s"), value(ids(2), "f64", "s")),
    "a shape of another size": (int64s(3, 2), int64s(3, 7)),
    "a negative shape": (int64s(3, 2), int64s(3, -9)),
    "an index out of range": (b"\x48" + int64s(1), b"\x48" + int64s(1 << 40)),
    "operands in another order": (reads(3, 4), reads(4, 3)),
    "a shape that is data": (reads(1, 2), reads(2, 1)),
}


@pytest.fixture(scope="module")
def plan_bytes() -> bytes:
    return planck.build(parser.parse_model(TEXT).SerializeToString()).to_bytes()


def patched(plan: bytes, patch: tuple[bytes, bytes]) -> planck.Plan:
    before, after = patch
    assert plan.count(before) == 1 and len(before) == len(after)
    return planck.load(_core.rehash_plan(plan.replace(before, after)))


def test_the_plan_itself(plan_bytes: bytes) -> None:
    plan = planck.load(plan_bytes)
    assert planck.compare(plan, data=FEEDS).ok
    assert set(plan.taps(FEEDS)) == {"a", "b", "c", "d", "y"}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_structure(plan_bytes: bytes, name: str) -> None:
    plan = patched(plan_bytes, BROKEN[name])
    for look in (lambda: planck.compare(plan, data=FEEDS), lambda: plan.taps(FEEDS)):
        with pytest.raises(planck.CorruptError, match="source graph"):
            look()
    assert plan.run(FEEDS)["y"].shape == (3, 2)


@pytest.mark.parametrize("name", LIES)
def test_lies(plan_bytes: bytes, name: str) -> None:
    plan = patched(plan_bytes, LIES[name])
    with pytest.raises((planck.RunError, planck.CorruptError)):
        planck.compare(plan, data=FEEDS)
    try:
        plan.taps(FEEDS)
    except (planck.RunError, planck.CorruptError):
        pass
    else:
        assert "vanished" not in name and "value" not in name
    assert plan.run(FEEDS)["y"].shape == (3, 2)


def test_a_reference_of_another_size(plan_bytes: bytes) -> None:
    """It feeds steps alone, so it must not be read beyond its end."""
    plan = planck.load(plan_bytes)
    taps = plan.taps(FEEDS)
    assert planck.compare(plan, taps, FEEDS).ok
    with pytest.raises(planck.RunError):
        planck.compare(plan, {**taps, "a": taps["a"][:1]}, FEEDS)

"""Malicious models: each row makes one input and says what may come out of it.

Ids are those of the catalogue of hostile inputs; "ok" means that the model builds and runs. What
has no case yet is in NOT_COVERED, with its reason.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import AttributeProto, TensorProto, helper, numpy_helper

F32, I64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
Feeds = dict[str, NDArray[Any]]
Input = bytes | Path

NOT_COVERED = {
    "M17": "a sub-graph that hides outer names: no op with sub-graphs is supported yet, so such a "
    "model ends in UnsupportedError before its names are looked at (importer_test has the rule)",
    "M33": "a swap between check and open needs a racing thread: importer_test compares the inode",
    "M38": "a file that shrinks while it is mapped: only files of others are at risk, and those "
    "are copied (importer_test, as another user)",
    "M45": "Loop is not supported yet",
}


@dataclass(frozen=True)
class Case:
    """One input. `expected`: "ok" or names of error classes, any of which is right."""

    id: str
    name: str
    expected: tuple[str, ...]
    make: Callable[[Path], Input]
    feeds: Feeds = field(default_factory=dict)

    @property
    def label(self) -> str:
        return f"{self.id}-{self.name.replace(' ', '_')}"


CASES: list[Case] = []


def add(
    id: str,
    name: str,
    expected: str,
    make: Input | Callable[[Path], Input],
    feeds: Feeds | None = None,
) -> None:
    """Adds a row; `expected` lists classes with '|'."""
    fixed = make if callable(make) else lambda folder: make
    CASES.append(Case(id, name, tuple(expected.split("|")), fixed, feeds or {}))


# --- making models -------------------------------------------------------------------------------


def port(name: str, dims: Sequence[int | str] | None = None, dtype: int = F32) -> Any:
    """An input or output."""
    return helper.make_tensor_value_info(name, dtype, dims)


def graph(
    nodes: Sequence[Any],
    inputs: Sequence[Any] | None = None,
    outputs: Sequence[Any] | None = None,
    weights: Sequence[Any] = (),
) -> Any:
    """A graph from x f32[N,4] to the last node's output, unless told otherwise."""
    inputs = [port("x", ["N", 4])] if inputs is None else inputs
    outputs = [port(nodes[-1].output[0])] if outputs is None else outputs
    return helper.make_graph(list(nodes), "g", list(inputs), list(outputs), list(weights))


def model(
    g: Any, opset: int = 17, functions: Sequence[Any] = (), domains: Sequence[str] = ()
) -> bytes:
    """Its bytes."""
    imports = [helper.make_opsetid("", opset)] + [helper.make_opsetid(d, 1) for d in domains]
    made = helper.make_model(g, functions=list(functions), ir_version=9)
    del made.opset_import[:]
    made.opset_import.extend(imports)
    return made.SerializeToString()


def node(op: str, inputs: Sequence[str], outputs: Sequence[str] = ("y",), **attributes: Any) -> Any:
    """A node."""
    return helper.make_node(op, list(inputs), list(outputs), **attributes)


def tensor(name: str, values: Any, dtype: Any = None) -> Any:
    """An initializer."""
    return numpy_helper.from_array(np.asarray(values, dtype), name)


def simple(op: str, *values: Any, **attributes: Any) -> bytes:
    """One node that reads x and constants."""
    weights = [tensor(f"c{i}", v) for i, v in enumerate(values)]
    return model(
        graph([node(op, ["x", *(w.name for w in weights)], **attributes)], weights=weights)
    )


def with_tensor(t: Any) -> bytes:
    """x + w with a given tensor w."""
    t.name = "w"
    return model(graph([node("Add", ["x", "w"])], weights=[t]))


def varint(value: int) -> bytes:
    """Protobuf's."""
    out = b""
    while value > 0x7F:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def sized(tag: int, content: bytes) -> bytes:
    """A length-delimited field."""
    return varint(tag << 3 | 2) + varint(len(content)) + content


X = np.arange(8, dtype=np.float32).reshape(2, 4)
FEEDS: Feeds = {"x": X}
RELU = model(graph([node("Relu", ["x"])]))
HUGE = 10**12

# --- bytes that are no model ---------------------------------------------------------------------

add("M01", "empty", "ParseError", b"")
for byte in (0x00, 0x08, 0x3A, 0x7F, 0xFF):
    add("M02", f"one byte {byte:02x}", "ParseError", bytes([byte]))
for i in range(0, len(RELU), 7):
    add("M03", f"cut at {i}", "ParseError|GraphError", RELU[:i])
add("M04", "a graph of 3 GiB", "ParseError|LimitError", b"\x3a" + varint(3 << 30) + b"x")
add("M04", "a graph of 2^63 bytes", "ParseError|LimitError", b"\x3a" + varint((1 << 63) - 1))
add("M05", "ir_version as bytes", "ParseError", b"\x0a\x01\x01")
add("M05", "graph as a number", "ParseError", b"\x38\x01" + RELU)
add("M06", "groups without end", "ParseError", b"\x0b" * 1000)
add("M06", "groups in a field that is skipped", "ParseError", RELU + b"\xe3\x3f" * 100_000)
add("M07", "unknown fields", "ok", RELU + b"\xe2\x3f\x01x" * 1_000_000, FEEDS)
add("M08", "empty outputs", "LimitError", lambda _: sized(7, b"\x62\x00" * 20_000_000))
add("M08", "empty nodes", "LimitError", lambda _: sized(7, b"\x0a\x00" * 10_000_000))
add("M08", "dims", "LimitError", lambda _: sized(7, sized(5, sized(1, b"\x01" * 30_000_000))))


def named(name: bytes) -> bytes:
    """A model whose node has a name that is put in afterwards."""
    mark = b"M" * 40
    bytes_ = model(graph([helper.make_node("Relu", ["x"], ["y"], name=mark.decode())]))
    return bytes_.replace(mark, name.ljust(40, b"n"))


add("M09", "no UTF-8", "GraphError", named(b"\xff\xfe"))
add("M09", "overlong UTF-8", "GraphError", named(b"\xc0\x80"))
add("M09", "NUL", "GraphError", named(b"a\0b"))
LONG = node("Relu", ["x"], name="n" * 10**7)
add("M09", "10 MB", "LimitError", lambda _: model(graph([LONG])))

# --- graphs --------------------------------------------------------------------------------------

add(
    "M10",
    "two values of one name",
    "GraphError",
    model(graph([node("Relu", ["x"]), node("Tanh", ["x"])])),
)
add(
    "M10",
    "two inputs of one name",
    "GraphError",
    model(graph([node("Relu", ["x"])], inputs=[port("x", [4]), port("x", [4])])),
)
add(
    "M10",
    "an output listed twice",
    "GraphError",
    model(graph([node("Relu", ["x"])], outputs=[port("y"), port("y")])),
)
add(
    "M10",
    "an input that is an output",
    "ok",
    model(graph([node("Relu", ["x"])], outputs=[port("x"), port("y")])),
    FEEDS,
)
add(
    "M11",
    "an output of nobody",
    "GraphError",
    model(graph([node("Relu", ["x"])], outputs=[port("z")])),
)
add("M11", "an input of nobody", "GraphError", model(graph([node("Relu", ["z"])])))
add(
    "M12",
    "a cycle",
    "GraphError",
    model(graph([node("Add", ["x", "b"], ["a"]), node("Relu", ["a"], ["b"])])),
)
add("M12", "a node that reads itself", "GraphError", model(graph([node("Add", ["x", "y"])])))


def function(name: str, *calls: str, domain: str = "f", wrap: bool = False) -> Any:
    """A function that calls others one after the other, inside an If where asked."""
    nodes = []
    last = "a"
    for i, call in enumerate(calls):
        inner = helper.make_node(call, [last], [f"t{i}"], domain=domain)
        if wrap:
            branch = helper.make_graph([inner], "branch", [], [port(f"t{i}")])
            inner = node("If", [last], [f"o{i}"], then_branch=branch, else_branch=branch)
        nodes.append(inner)
        last = inner.output[0]
    nodes.append(node("Relu", [last], ["b"]))
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("f", 1)]
    return helper.make_function("f", name, ["a"], ["b"], nodes, imports)


def calling(functions: Sequence[Any], first: str = "f0") -> bytes:
    """A model that calls one of its functions."""
    call = helper.make_node(first, ["x"], ["y"], domain="f")
    return model(graph([call]), functions=functions, domains=["f"])


add("M13", "a function that calls itself", "GraphError", calling([function("f0", "f0")]))
add(
    "M13",
    "two that call each other",
    "GraphError",
    calling([function("f0", "f1"), function("f1", "f0")]),
)
add("M13", "hidden in a branch", "GraphError", calling([function("f0", "f0", wrap=True)]))
add(
    "M13",
    "a cycle that nobody calls",
    "GraphError",
    calling([function("f0"), function("f1", "f2"), function("f2", "f1")]),
)


def deep_graphs(depth: int) -> bytes:
    """Graphs inside graphs, from the inside out and back to front."""
    out = bytearray()

    def wrap(tag: int) -> None:
        out.extend((bytes([tag << 3 | 2]) + varint(len(out)))[::-1])

    for _ in range(depth):
        wrap(6)  # AttributeProto.g
        wrap(5)  # NodeProto.attribute
        wrap(1)  # GraphProto.node
    wrap(7)
    return bytes(out[::-1])


add("M14", "graphs 10000 deep", "LimitError", lambda _: deep_graphs(10_000))
add("M14", "graphs 65 deep", "LimitError", lambda _: deep_graphs(66))
add(
    "M15",
    "10001 functions",
    "LimitError",
    lambda _: calling([function(f"f{i}") for i in range(10_001)]),
)
add(
    "M15",
    "calls 101 deep",
    "LimitError",
    lambda _: calling([function(f"f{i}", *([f"f{i + 1}"] if i < 100 else [])) for i in range(101)]),
)
add(
    "M16",
    "calls that double 40 times",
    "LimitError",
    lambda _: calling(
        [function(f"f{i}", *([f"f{i + 1}"] * 2 if i < 39 else [])) for i in range(40)]
    ),
)


def big_constant_called(times: int) -> bytes:
    """A function with a constant of 1 MiB, called often."""
    value = tensor("v", np.zeros(1 << 18, np.float32))
    nodes = [
        node("Constant", [], ["c"], value=value),
        node("ReduceMax", ["c"], ["m"]),
        node("Add", ["a", "m"], ["b"]),
    ]
    body = helper.make_function("f", "f0", ["a"], ["b"], nodes, [helper.make_opsetid("", 17)])
    chain = [
        helper.make_node("f0", [f"y{i}" if i else "x"], [f"y{i + 1}"], domain="f")
        for i in range(times)
    ]
    return model(graph(chain), functions=[body], domains=["f"])


add("M16", "a constant that calls multiply", "LimitError", lambda _: big_constant_called(5000))

# --- attributes, opsets, optional inputs ---------------------------------------------------------


def with_attribute(**fields: Any) -> bytes:
    """Softmax with a hand-made attribute."""
    n = node("Softmax", ["x"])
    n.attribute.append(AttributeProto(**fields))
    return model(graph([n]))


add(
    "M18",
    "an attribute that is missing",
    "GraphError",
    model(graph([node("Unsqueeze", ["x"])]), opset=11),
)
add(
    "M18",
    "an attribute that nobody knows",
    "GraphError",
    with_attribute(name="colour", type=AttributeProto.INT, i=1),
)
add(
    "M18",
    "text where a number is due",
    "GraphError",
    with_attribute(name="axis", type=AttributeProto.STRING, s=b"1"),
)
add(
    "M18",
    "a type that lies",
    "GraphError",
    with_attribute(name="axis", type=AttributeProto.FLOAT, i=1),
)
add(
    "M18",
    "two values",
    "GraphError",
    with_attribute(name="axis", type=AttributeProto.INT, i=1, f=1.0),
)
add(
    "M18",
    "a graph where a number is due",
    "GraphError",
    with_attribute(name="axis", type=AttributeProto.GRAPH, g=graph([node("Relu", ["x"])])),
)
add(
    "M18",
    "a tensor where a number is due",
    "GraphError",
    with_attribute(name="axis", type=AttributeProto.TENSOR, t=tensor("t", [1])),
)
add(
    "M18",
    "a graph where a tensor is due",
    "GraphError",
    model(
        graph(
            [
                node("Constant", [], ["c"], value=graph([node("Relu", ["x"])])),
                node("Add", ["x", "c"]),
            ]
        )
    ),
)
add("M18", "a dunder", "GraphError", with_attribute(name="__class__", type=AttributeProto.INT, i=1))
for version in (0, -1, -(2**63)):
    add("M19", f"opset {version}", "GraphError", model(graph([node("Relu", ["x"])]), opset=version))
add("M19", "opset 2^31", "VersionError", model(graph([node("Relu", ["x"])]), opset=2**31))
add(
    "M19",
    "a domain that is not imported",
    "GraphError|UnsupportedError",
    model(graph([helper.make_node("Fox", ["x"], ["y"], domain="nowhere")])),
)
for op, inputs in {
    "Add": ["x", "x"],
    "Concat": ["x", "x"],
    "Where": ["x", "x", "x"],
    "Gather": ["x", "x"],
    "Expand": ["x", "x"],
    "MatMul": ["x", "x"],
}.items():
    for i in range(len(inputs)):
        holed = [*inputs[:i], "", *inputs[i + 1 :]]
        attributes = {"axis": 0} if op == "Concat" else {}
        add(
            "M20",
            f"{op} without input {i}",
            # A last input that is empty is one that is not given.
            "ok" if (op, i) == ("Concat", 1) else "GraphError",
            model(graph([node(op, holed, **attributes)])),
        )
add(
    "M20",
    "Clip without its lower bound",
    "ok",
    model(graph([node("Clip", ["x", "", "c"])], weights=[tensor("c", 1, np.float32)])),
    FEEDS,
)
add("M20", "Clip without bounds", "ok", model(graph([node("Clip", ["x", "", ""])])), FEEDS)
add(
    "M20",
    "a node without outputs",
    "GraphError",
    model(graph([helper.make_node("Relu", ["x"], []), node("Relu", ["x"])])),
)

# --- tensors -------------------------------------------------------------------------------------

RAW = b"\0" * 16


def proto(**fields: Any) -> Any:
    """A TensorProto by its fields."""
    return TensorProto(**fields)


add(
    "M21",
    "dims whose product overflows",
    "GraphError",
    with_tensor(proto(data_type=F32, dims=[2**32, 2**32, 4], raw_data=RAW)),
)
add(
    "M21",
    "an input whose elements overflow",
    "ok|GraphError|LimitError|RunError",
    model(graph([node("Relu", ["x"])], inputs=[port("x", [2**40, 2**40])])),
)
add(
    "M22",
    "a negative dim",
    "GraphError",
    with_tensor(proto(data_type=F32, dims=[-4], raw_data=RAW)),
)
add(
    "M22",
    "an input with a negative dim",
    "GraphError",
    model(graph([node("Relu", ["x"])], inputs=[port("x", [-2])])),
)
add(
    "M23",
    "no elements, but data",
    "GraphError",
    with_tensor(proto(data_type=F32, dims=[0, 4], raw_data=RAW)),
)
add("M24", "rank 0", "ok", with_tensor(tensor("w", 2, np.float32)), FEEDS)
add(
    "M24",
    "rank 33",
    "LimitError",
    with_tensor(proto(data_type=F32, dims=[1] * 33, raw_data=b"abcd")),
)
add(
    "M24",
    "rank 1025",
    "LimitError",
    with_tensor(proto(data_type=F32, dims=[1] * 1025, raw_data=b"abcd")),
)
add(
    "M24",
    "rank 10^6",
    "LimitError",
    lambda _: with_tensor(proto(data_type=F32, dims=[1] * 10**6, raw_data=b"abcd")),
)
add(
    "M24",
    "an input of rank 1025",
    "LimitError",
    model(graph([node("Relu", ["x"])], inputs=[port("x", [1] * 1025)])),
)
add("M24", "Unsqueeze beyond the rank", "GraphError|LimitError", simple("Unsqueeze", np.arange(40)))
add(
    "M24",
    "Reshape beyond the rank",
    "GraphError|LimitError",
    simple("Reshape", np.array([1] * 100 + [-1])),
)


def payloads() -> Iterator[tuple[str, Any]]:
    """Every field family with one entry too few and one too many for 4 elements."""
    families = {
        "raw": (F32, "raw_data", lambda n: b"\0" * (4 * n)),
        "float": (F32, "float_data", lambda n: [0.0] * n),
        "int32": (TensorProto.INT32, "int32_data", lambda n: [0] * n),
        "int8 in int32": (TensorProto.INT8, "int32_data", lambda n: [0] * n),
        "half in int32": (TensorProto.FLOAT16, "int32_data", lambda n: [0] * n),
        "bool in int32": (BOOL, "int32_data", lambda n: [0] * n),
        "int64": (I64, "int64_data", lambda n: [0] * n),
        "uint64": (TensorProto.UINT64, "uint64_data", lambda n: [0] * n),
        "double": (TensorProto.DOUBLE, "double_data", lambda n: [0.0] * n),
        "string": (TensorProto.STRING, "string_data", lambda n: [b"a"] * n),
        "int4": (TensorProto.INT4, "int32_data", lambda n: [0] * (n // 2 if n % 2 == 0 else n)),
        "raw int4": (TensorProto.INT4, "raw_data", lambda n: b"\0" * n),
    }
    for name, (dtype, family, make) in families.items():
        for n in (3, 5):
            yield f"{name} with {n}", proto(data_type=dtype, dims=[4], **{family: make(n)})


for label, damaged in payloads():
    add("M25", f"four elements, {label}", "GraphError", with_tensor(damaged))
for perm in (list(range(20))[::-1], [i ^ 1 for i in range(20)]):
    add(
        "M24",
        f"a transpose of 20 axes {perm[0]}",
        "ok",
        model(graph([node("Transpose", ["x"], perm=perm)], inputs=[port("x", [2] * 20)])),
        {"x": np.zeros([2] * 20, np.float32)},
    )
EVERY_OTHER = tensor("w", np.zeros([1, 2] * 10, np.float32))
add(
    "M24",
    "a sum of 20 axes",
    "ok",
    model(graph([node("Add", ["x", "w"])], inputs=[port("x", [2] * 20)], weights=[EVERY_OTHER])),
    {"x": np.zeros([2] * 20, np.float32)},
)
add(
    "M25",
    "700 million elements from one byte",
    "GraphError|LimitError",
    with_tensor(proto(data_type=TensorProto.INT4, dims=[700_000_000], raw_data=b"\0")),
)
add("M25", "no data at all", "GraphError", with_tensor(proto(data_type=F32, dims=[4])))
add(
    "M26",
    "raw bytes that are no elements",
    "GraphError",
    with_tensor(proto(data_type=F32, dims=[4], raw_data=b"\0" * 15)),
)
add(
    "M27",
    "raw and typed data",
    "GraphError",
    with_tensor(proto(data_type=F32, dims=[4], raw_data=RAW, float_data=[1.0] * 4)),
)
add(
    "M27",
    "two typed fields",
    "GraphError",
    with_tensor(proto(data_type=F32, dims=[4], float_data=[1.0] * 4, int64_data=[1] * 4)),
)
add("M28", "undefined type", "GraphError", with_tensor(proto(data_type=0, dims=[4], raw_data=RAW)))
add("M28", "type 1000", "GraphError", with_tensor(proto(data_type=1000, dims=[4], raw_data=RAW)))
add(
    "M28",
    "text where a number is due",
    "GraphError|UnsupportedError",
    with_tensor(proto(data_type=TensorProto.STRING, dims=[4], string_data=[b"a"] * 4)),
)
add(
    "M28",
    "complex where a number is due",
    "GraphError|UnsupportedError",
    with_tensor(proto(data_type=TensorProto.COMPLEX64, dims=[2], raw_data=RAW)),
)
add(
    "M28",
    "other types on both sides",
    "GraphError",
    with_tensor(tensor("w", [1, 2, 3, 4], np.int64)),
)
add(
    "M29",
    "bools that are neither 0 nor 1",
    "ok",
    model(
        graph(
            [node("Where", ["w", "x", "x"])],
            weights=[proto(name="w", data_type=BOOL, dims=[4], raw_data=b"\x00\x02\x80\xff")],
        )
    ),
    FEEDS,
)


def sparse(indices: Sequence[int], dims: Sequence[int], external: str = "") -> bytes:
    """x + a sparse w of two values."""
    values = tensor("w", [1.0, 2.0], np.float32)
    if external:
        values.ClearField("raw_data")
        values.data_location = TensorProto.EXTERNAL
        values.external_data.add(key="location", value=external)
    g = graph([node("Add", ["x", "w"])])
    g.sparse_initializer.add(values=values, indices=tensor("i", indices, np.int64), dims=dims)
    return model(g)


add("M30", "sparse", "ok", sparse([0, 3], [4]), FEEDS)
add("M30", "sparse index out of range", "GraphError", sparse([0, 4], [4]))
add("M30", "sparse index negative", "GraphError", sparse([-1, 2], [4]))
add("M30", "sparse indices unsorted", "GraphError", sparse([2, 1], [4]))
add("M30", "sparse indices twice", "GraphError", sparse([2, 2], [4]))
add("M30", "sparse dims of terabytes", "LimitError", sparse([0, 1], [2**40]))
add("M30", "sparse dims that overflow", "GraphError", sparse([0, 1], [2**40, 2**40]))
add("M30", "sparse with external values", "ExternalDataError", sparse([0, 1], [4], "../w"))

# --- external data -------------------------------------------------------------------------------


def beside(
    prepare: Callable[[Path], None] = lambda folder: None, **entries: str
) -> Callable[[Path], Path]:
    """A model file with a weight of 4 floats in external data, and what `prepare` puts there."""

    def make(folder: Path) -> Path:
        home = folder / "model"
        home.mkdir()
        (folder / "secret").write_bytes(bytes(64))
        (home / "w").write_bytes(bytes(64))
        prepare(home)
        w = proto(name="w", data_type=F32, dims=[4], data_location=TensorProto.EXTERNAL)
        for key, value in {"location": "w", "length": "16", **entries}.items():
            w.external_data.add(key=key, value=value)
        path = home / "model.onnx"
        path.write_bytes(model(graph([node("Add", ["x", "w"])], weights=[w])))
        return path

    return make


def replaced(make: Callable[[Path], object]) -> Callable[[Path], None]:
    """Puts something else in the place of the weight file."""

    def prepare(home: Path) -> None:
        (home / "w").unlink()
        make(home)

    return prepare


def through_folder(home: Path) -> None:
    """A folder that is a link to the one above."""
    (home / "sub").symlink_to("..")


def listening(home: Path) -> None:
    """A socket."""
    here = os.getcwd()
    os.chdir(home)  # the path of a socket is short
    try:
        socket.socket(socket.AF_UNIX).bind("w")
    finally:
        os.chdir(here)


add("M31", "a weight beside the model", "ok", beside(), FEEDS)
for location in (
    "../secret",
    "/etc/passwd",
    "sub/../../secret",
    "C:\\w",
    "\\\\host\\w",
    "C:/w",
    "",
    ".",
    "./",
    "w/",
    "w/.",
    "file:///etc/passwd",
    "~/w",
    "..",
    "w\0x",
    "a/../w",
):
    shown = location.replace("/", "|").replace("\0", "NUL").replace("\\", "!") or "nothing"
    add("M31", f"location {shown}", "ExternalDataError", beside(location=location))
add(
    "M32",
    "a symbolic link",
    "ExternalDataError",
    beside(replaced(lambda home: (home / "w").symlink_to("../secret"))),
)
add(
    "M32",
    "a symbolic link inside",
    "ExternalDataError",
    beside(replaced(lambda home: (home / "w").symlink_to("model.onnx"))),
)
add(
    "M32",
    "a folder that is a link",
    "ExternalDataError",
    beside(through_folder, location="sub/secret"),
)
add(
    "M32",
    "a hard link",
    "ExternalDataError",
    beside(replaced(lambda home: (home / "w").hardlink_to(home.parent / "secret"))),
)
add("M34", "a FIFO", "ExternalDataError", beside(replaced(lambda home: os.mkfifo(home / "w"))))
add("M34", "a folder", "ExternalDataError", beside(replaced(lambda home: (home / "w").mkdir())))
add("M34", "a socket", "ExternalDataError", beside(replaced(listening)))
add("M34", "a device", "ExternalDataError", beside(location="../../../../../dev/zero"))
for key in ("offset", "length"):
    for value in (
        "-1",
        "1e3",
        "0x10",
        " 16",
        "16 ",
        "+16",
        "",
        "17",
        "1000",
        str(10**15),
        str(2**63),
        str(2**64),
        "9" * 100,
        "٣",
    ):
        if (key, value) == ("offset", "17"):
            continue  # floats may lie anywhere
        add("M35", f"{key} {value[:20]!r}", "ExternalDataError", beside(**{key: value}))


def overlapping(folder: Path) -> Path:
    """Two tensors that share bytes."""
    path = beside()(folder)
    made = onnx.load(path, load_external_data=False)
    second = made.graph.initializer.add()
    second.CopyFrom(made.graph.initializer[0])
    second.name = "v"
    second.external_data.add(key="offset", value="8")
    made.graph.node.append(node("Add", ["y", "v"], ["z"]))
    del made.graph.output[:]
    made.graph.output.append(port("z"))
    path.write_bytes(made.SerializeToString())
    return path


add("M35", "tensors that overlap", "ExternalDataError", overlapping)
for key in ("__class__", "__init__", "basepath", "Location", "checksum2"):
    add("M36", f"key {key}", "ExternalDataError", beside(**{key: "1"}))
add(
    "M37",
    "a private marker",
    "ExternalDataError",
    beside(location="*/_ORT_MEM_ADDR_/*", offset="140737488355328"),
)
add("M39", "a wrong checksum", "ExternalDataError", beside(checksum="0" * 40))
add("M39", "a checksum that is none", "ExternalDataError", beside(checksum="yes"))

# --- memory --------------------------------------------------------------------------------------


def filled(op: str, *values: Any, dtype: Any = np.int64, **attributes: Any) -> bytes:
    """An op on constants, whose result is added to x."""
    weights = [tensor(f"c{i}", v, dtype) for i, v in enumerate(values)]
    nodes = [
        node(op, [w.name for w in weights], ["big"], **attributes),
        node("ReduceMax", ["big"], ["top"]),
        node("Cast", ["top"], ["number"], to=F32),
        node("Add", ["x", "number"]),
    ]
    return model(graph(nodes, weights=weights))


add("M40", "ConstantOfShape", "LimitError", filled("ConstantOfShape", [HUGE]), FEEDS)
add(
    "M40",
    "ConstantOfShape of petabytes",
    "LimitError|GraphError",
    filled("ConstantOfShape", [2**62]),
    FEEDS,
)
add(
    "M40",
    "ConstantOfShape that overflows",
    "LimitError|GraphError",
    filled("ConstantOfShape", [2**40, 2**40]),
    FEEDS,
)
add("M40", "Expand", "LimitError", simple("Expand", np.array([HUGE, 1, 1])), FEEDS)
add("M40", "Tile", "LimitError", simple("Tile", np.array([HUGE, 1])), FEEDS)
add(
    "M40",
    "Tile of Tile",
    "LimitError|GraphError",
    model(
        graph(
            [
                node("Tile", ["x", "r"], ["a"]),
                node("Tile", ["a", "r"], ["b"]),
                node("Tile", ["b", "r"], ["c"]),
                node("Tile", ["c", "r"]),
            ],
            weights=[tensor("r", [1000, 1000])],
        )
    ),
    FEEDS,
)
add("M40", "Range", "LimitError", filled("Range", 0, HUGE, 1), FEEDS)
add("M40", "Range of floats", "LimitError", filled("Range", 0, 1e12, 1, dtype=np.float32), FEEDS)
add("M40", "Pad", "LimitError", simple("Pad", np.array([HUGE, 0, 0, 0])), FEEDS)
add(
    "M40",
    "Pad that overflows",
    "LimitError|GraphError",
    simple("Pad", np.array([2**62, 2**62, 2**62, 2**62])),
    FEEDS,
)
add(
    "M40",
    "OneHot",
    "LimitError",
    model(
        graph(
            [node("Cast", ["x"], ["i"], to=I64), node("OneHot", ["i", "d", "v"])],
            weights=[tensor("d", HUGE), tensor("v", [0.0, 1.0], np.float32)],
        )
    ),
    FEEDS,
)
add(
    "M40",
    "an outer product",
    "LimitError",
    model(
        graph(
            [
                node("Reshape", ["x", "c"], ["a"]),
                node("Reshape", ["x", "r"], ["b"]),
                node("MatMul", ["a", "b"]),
            ],
            inputs=[port("x", ["N"])],
            weights=[tensor("c", [-1, 1]), tensor("r", [1, -1])],
        )
    ),
    {"x": np.ones(100_000, np.float32)},
)
add(
    "M40",
    "an outer sum by broadcasting",
    "LimitError",
    model(
        graph(
            [node("Unsqueeze", ["x", "i"], ["a"]), node("Add", ["a", "x"])],
            inputs=[port("x", ["N"])],
            weights=[tensor("i", [1])],
        )
    ),
    {"x": np.ones(100_000, np.float32)},
)
add(
    "M40",
    "a chain of concatenations",
    "LimitError|GraphError",
    lambda _: model(
        graph(
            [node("Concat", [f"v{i}" if i else "x"] * 8, [f"v{i + 1}"], axis=0) for i in range(20)]
        )
    ),
    FEEDS,
)
add(
    "M40",
    "shapes that double as text",
    "ok|LimitError|RunError|GraphError|UnsupportedError",
    lambda _: model(
        graph(
            [
                node("MatMul", [f"v{i}" if i else "x", f"v{i}" if i else "x"], [f"v{i + 1}"])
                for i in range(60)
            ],
            inputs=[port("x", ["N", "N"])],
        )
    ),
    {"x": np.zeros((3, 3), np.float32)},
)


def imaged(op: str, kernel: list[int] | None = None, **attributes: Any) -> bytes:
    """A window op on f32[1,2,5,5], with weights of a shape where it takes them."""
    weights = [] if kernel is None else [tensor("w", np.zeros(kernel, np.float32))]
    inputs = ["x", *(w.name for w in weights)]
    ports = [port("x", [1, 2, 5, 5])]
    return model(graph([node(op, inputs, **attributes)], inputs=ports, weights=weights))


IMAGE: Feeds = {"x": np.ones((1, 2, 5, 5), np.float32)}
BIG = 2**31 - 1
add(
    "M40",
    "ConvTranspose",
    "LimitError|GraphError",
    imaged("ConvTranspose", [2, 1, 1, 1], strides=[BIG, BIG]),
    IMAGE,
)
add(
    "M40",
    "a convolution over padding",
    "LimitError|GraphError",
    imaged("Conv", [1, 2, 1, 1], pads=[BIG, BIG, 0, 0]),
    IMAGE,
)
add(
    "M40",
    "a pool over padding",
    "LimitError|GraphError",
    imaged("MaxPool", kernel_shape=[1, 1], pads=[BIG, BIG, 0, 0]),
    IMAGE,
)
add(
    "M40",
    "a window of 2^60 places",
    "ok|TimeoutError|LimitError|GraphError|RunError",
    imaged("AveragePool", kernel_shape=[2**30, 2**30], pads=[2**30, 2**30, 0, 0]),
    IMAGE,
)
add("M40", "Resize without a size", "GraphError", simple("Resize"))
add(
    "M40",
    "Resize",
    "LimitError|GraphError",
    model(
        graph(
            [node("Resize", ["x", "", "", "n"])],
            weights=[tensor("n", np.array([HUGE, HUGE]))],
        )
    ),
    FEEDS,
)

# --- meaning -------------------------------------------------------------------------------------

add(
    "M41",
    "a split into none",
    "GraphError",
    model(graph([node("Split", ["x"], num_outputs=0)]), opset=18),
)
add("M41", "a split into nothing", "GraphError", simple("Split", np.array([0]), axis=1))
for op, kernel in {"Conv": [2, 2, 3, 3], "ConvTranspose": [2, 2, 3, 3]}.items():
    for name in ("strides", "dilations"):
        for value in (0, -1, -(2**63), 2**63 - 1):
            made = imaged(op, kernel, **{name: [value, 1]})
            add("M41", f"{op} {name} {value}", "GraphError", made)
    for value in (0, -1, 3, 2**62):
        add(
            "M41",
            f"{op} in {value} groups",
            "GraphError|RunError",
            imaged(op, kernel, group=value),
            IMAGE,
        )
    add("M41", f"{op} with negative pads", "GraphError", imaged(op, kernel, pads=[-1, 0, 0, 0]))
    add("M41", f"{op} with pads of another rank", "GraphError", imaged(op, kernel, pads=[1, 1]))
    add("M41", f"{op} with auto_pad", "GraphError", imaged(op, kernel, auto_pad="%s"))
    # The second extent of a ConvTranspose's weights is that of its output, which may be empty.
    expected = "GraphError|RunError" if op == "Conv" else "ok"
    add("M41", f"{op} without channels", expected, imaged(op, [2, 0, 3, 3]), IMAGE)
    add("M41", f"{op} with a kernel of 0", "GraphError", imaged(op, [2, 2, 0, 3]))
    add(
        "M41",
        f"{op} with another kernel_shape",
        "GraphError",
        imaged(op, kernel, kernel_shape=[2, 3]),
    )
add(
    "M41",
    "a kernel larger than the input",
    "GraphError|RunError",
    imaged("Conv", [2, 2, 7, 7]),
    IMAGE,
)
for op in ("MaxPool", "AveragePool", "LpPool"):
    add("M41", f"{op} with a kernel of 0", "GraphError", imaged(op, kernel_shape=[0, 1]))
    add(
        "M41",
        f"{op} with strides of 0",
        "GraphError",
        imaged(op, kernel_shape=[1, 1], strides=[0, 1]),
    )
    add(
        "M41",
        f"{op} larger than the input",
        "GraphError|RunError",
        imaged(op, kernel_shape=[7, 7]),
        IMAGE,
    )
for value in (0, -1, 2**31):
    add("M41", f"DepthToSpace by {value}", "GraphError", imaged("DepthToSpace", blocksize=value))
for axis in (2, -3, 2**31 - 1, -(2**31), 2**63 - 1, -(2**63)):
    add("M42", f"Softmax axis {axis}", "GraphError", simple("Softmax", axis=axis))
    add(
        "M42",
        f"Concat axis {axis}",
        "GraphError",
        model(graph([node("Concat", ["x", "x"], axis=axis)])),
    )
    add("M42", f"Gather axis {axis}", "GraphError", simple("Gather", np.array([0]), axis=axis))
    add("M42", f"Squeeze axis {axis}", "GraphError", simple("Squeeze", np.array([axis])))
    add("M42", f"ReduceSum axis {axis}", "GraphError", simple("ReduceSum", np.array([axis])))
    add("M42", f"CumSum axis {axis}", "GraphError", simple("CumSum", np.array(axis)))
    add(
        "M42",
        f"Flatten axis {axis}",
        "GraphError" if axis != 2 else "ok",
        simple("Flatten", axis=axis),
        FEEDS,
    )
    add(
        "M42",
        f"Slice axis {axis}",
        "GraphError",
        simple("Slice", np.array([0]), np.array([1]), np.array([axis])),
    )
for perm in ([0, 0], [0, 2], [1], [0, 1, 2], [-1, 0], [2**40, 0]):
    add("M42", f"perm {perm}", "GraphError", simple("Transpose", perm=perm))
add(
    "M42",
    "repeats that are negative",
    "GraphError|RunError",
    simple("Tile", np.array([-1, 1])),
    FEEDS,
)
add("M42", "repeats of another rank", "GraphError", simple("Tile", np.array([2])))
add(
    "M42",
    "split sums",
    "GraphError",
    model(graph([node("Split", ["x", "s"], ["y", "z"], axis=1)], weights=[tensor("s", [1, 2])])),
)
add(
    "M42",
    "split sums that wrap",
    "GraphError",
    model(
        graph(
            [node("Split", ["x", "s"], ["y", "z", "v"], axis=1)],
            weights=[tensor("s", [2**63 - 1, 2**63 - 1, 6])],
        )
    ),
)
add(
    "M42",
    "negative splits",
    "GraphError",
    model(graph([node("Split", ["x", "s"], ["y", "z"], axis=1)], weights=[tensor("s", [-1, 5])])),
)


def looked_up(op: str, index: Any, **attributes: Any) -> tuple[bytes, Feeds]:
    """An op whose indices are fed."""
    ids = np.asarray(index)
    inputs = [port("x", ["N", 4]), port("i", list(ids.shape), I64)]
    return model(graph([node(op, ["x", "i"], **attributes)], inputs=inputs)), {"x": X, "i": ids}


for value in (2, -3, 2**31, 2**63 - 1, -(2**63)):
    for op, index in {
        "Gather": [value],
        "GatherElements": [[value]],
        "GatherND": [[value]],
    }.items():
        made, fed = looked_up(op, index)
        add("M43", f"{op} index {value}", "RunError", made, fed)
    made, fed = looked_up("TopK", [value])
    fine = value == 2
    made = model(
        graph(
            [node("TopK", ["x", "i"], ["y", "z"])],
            inputs=[port("x", ["N", 4]), port("i", [1], I64)],
        )
    )
    add(
        "M43",
        f"TopK of {value}",
        "ok|UnsupportedError" if fine else "RunError|UnsupportedError",
        made,
        fed,
    )
table = tensor("t", np.zeros((16, 8), np.float32))
for value in (16, -17, 2**63 - 1, -(2**63)):
    add(
        "M43",
        f"embedding index {value}",
        "RunError",
        model(
            graph(
                [node("Gather", ["t", "i"])], inputs=[port("i", ["B", "L"], I64)], weights=[table]
            )
        ),
        {"i": np.full((1, 3), value, np.int64)},
    )
for value in (np.nan, np.inf, -np.inf, 1e30):
    add(
        "M43",
        f"{value} made an index",
        "RunError",
        model(
            graph(
                [node("Cast", ["x"], ["i"], to=I64), node("Gather", ["t", "i"])],
                inputs=[port("x", [1])],
                weights=[tensor("t", np.zeros((1, 8), np.float32))],
            )
        ),
        {"x": np.array([value], np.float32)},
    )
for op, index in {"ScatterElements": [[4]], "ScatterND": [[4]]}.items():
    for value in (4, -5, 2**63 - 1, -(2**63)):
        ids = np.full_like(np.array(index), value)
        made = model(
            graph(
                [node(op, ["x", "i", "u"])],
                inputs=[port("x", [4] if op == "ScatterND" else [1, 4]), port("i", [1, 1], I64)],
                weights=[tensor("u", [1.0] if op == "ScatterND" else [[1.0]], np.float32)],
            )
        )
        data = np.zeros([4] if op == "ScatterND" else [1, 4], np.float32)
        add("M43", f"{op} index {value}", "RunError", made, {"x": data, "i": ids})
for length, expected in (
    (0, "ok"),
    (4, "ok"),
    (5, "RunError"),
    (-1, "RunError"),
    (2**62, "RunError"),
):
    reverse = node("ReverseSequence", ["x", "l"], batch_axis=0, time_axis=1)
    made = model(graph([reverse], inputs=[port("x", ["N", 4]), port("l", ["N"], I64)]))
    add(
        "M44",
        f"a sequence of {length}",
        expected,
        made,
        {"x": X, "l": np.full(2, length, np.int64)},
    )
add("M46", "Range with step 0", "GraphError|RunError", filled("Range", 0, 5, 0), FEEDS)
add(
    "M46",
    "Range of floats with step 0",
    "GraphError|RunError",
    filled("Range", 0, 5, 0, dtype=np.float32),
    FEEDS,
)
add(
    "M46",
    "Range with a subnormal step",
    "LimitError",
    filled("Range", 0, 5, 1e-45, dtype=np.float32),
    FEEDS,
)
add(
    "M46",
    "Range to NaN",
    "GraphError|RunError|LimitError|ok",
    filled("Range", 0, np.nan, 1, dtype=np.float32),
    FEEDS,
)
add("M47", "Reshape with two -1", "GraphError", simple("Reshape", np.array([-1, -1])))
add("M47", "Reshape to -2", "GraphError", simple("Reshape", np.array([-2, 4])))
add(
    "M47",
    "Reshape that overflows",
    "GraphError|RunError",
    simple("Reshape", np.array([2**32, 2**32, 4])),
    FEEDS,
)
add("M47", "Reshape by 0 beyond the rank", "GraphError", simple("Reshape", np.array([0, 0, 0, -1])))
add(
    "M47",
    "Einsum with 60 labels",
    "UnsupportedError|GraphError",
    model(graph([node("Einsum", ["x"], equation="".join(map(chr, range(65, 125))))])),
)


def scaled(scale: Any, zero: Any = 0, op: str = "QuantizeLinear", **attributes: Any) -> bytes:
    """x to 8 bits, or 8 bits back, by constant scales."""
    weights = [tensor("s", scale, np.float32), tensor("z", zero, np.uint8)]
    nodes = [node("QuantizeLinear", ["x", "s", "z"], ["q"], **attributes)]
    nodes.append(node("DequantizeLinear", ["q", "s", "z"], **attributes))
    if op != "QuantizeLinear":
        nodes = [node("Cast", ["x"], ["q"], to=TensorProto.UINT8), nodes[1]]
    return model(graph(nodes, weights=weights), opset=21)


for op in ("QuantizeLinear", "DequantizeLinear"):
    for value in (0.0, -1.0, np.nan, np.inf, -np.inf):
        add("M48", f"{op} scale {value}", "GraphError", scaled(value, op=op))
    add("M48", f"{op} subnormal scale", "ok", scaled(1e-45, op=op), FEEDS)
    add(
        "M48",
        f"{op} axis out of range",
        "GraphError|RunError",
        scaled([1.0] * 4, [0] * 4, op, axis=5),
        FEEDS,
    )
    add(
        "M48",
        f"{op} zero points of another count",
        "GraphError|RunError",
        scaled([1.0] * 4, [0] * 3, op),
        FEEDS,
    )
    add(
        "M48",
        f"{op} scales of another count",
        "GraphError|RunError",
        scaled([1.0] * 3, [0] * 3, op),
        FEEDS,
    )
    add(
        "M48",
        f"{op} without scales",
        "GraphError|RunError",
        scaled(np.zeros(0), np.zeros(0), op),
        FEEDS,
    )
    for value in (-1, -(2**63), 2**62):
        made = scaled(np.ones((2, 4)), np.zeros((2, 4)), op, block_size=value, axis=1)
        add("M48", f"{op} block size {value}", "GraphError|RunError", made, FEEDS)
add(
    "M49",
    "a weight of another depth",
    "GraphError",
    model(graph([node("MatMul", ["x", "w"])], weights=[tensor("w", np.zeros((5, 3), np.float32))])),
)
add(
    "M49",
    "Gemm with a bias of another width",
    "GraphError",
    model(
        graph(
            [node("Gemm", ["x", "w", "b"])],
            weights=[
                tensor("w", np.zeros((4, 3), np.float32)),
                tensor("b", np.zeros(5, np.float32)),
            ],
        )
    ),
)
add(
    "M49",
    "a norm with a gain of another width",
    "GraphError",
    model(
        graph(
            [node("LayerNormalization", ["x", "g"])], weights=[tensor("g", np.zeros(5, np.float32))]
        )
    ),
)
add(
    "M49",
    "an empty weight",
    "ok",
    model(graph([node("MatMul", ["x", "w"])], weights=[tensor("w", np.zeros((4, 0), np.float32))])),
    FEEDS,
)
add(
    "M50",
    "more than 2^31 elements",
    "LimitError",
    simple("Expand", np.array([2**15, 2**15, 1, 1])),
    FEEDS,
)
add(
    "M50",
    "more than 2^32 elements in a view",
    "LimitError",
    model(
        graph(
            [node("Expand", ["x", "s"], ["a"]), node("ReduceSum", ["a"])],
            weights=[tensor("s", [2**31, 1, 1])],
        )
    ),
    FEEDS,
)

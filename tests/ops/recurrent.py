"""RNN, GRU and LSTM; ONNX Runtime judges more of their attributes in tests/python."""

import numpy as np
from harness import Case, normal

STEPS, BATCH, INPUT, HIDDEN = 5, 3, 4, 6
GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
X = normal(STEPS, BATCH, INPUT)
H, C = normal(1, BATCH, HIDDEN, seed=3), normal(1, BATCH, HIDDEN, seed=4)
LENGTHS = np.array([5, 3, 1], np.int32)


def weights(op, directions=1):
    rows = GATES[op] * HIDDEN
    return [
        normal(directions, rows, INPUT, seed=1),
        normal(directions, rows, HIDDEN, seed=2),
        normal(directions, 2 * rows, seed=5),
    ]


def inputs(op, directions=1):
    return [X, *weights(op, directions)]


SIZE = {"hidden_size": HIDDEN}
BOTH = {**SIZE, "direction": "bidirectional"}

CASES = [
    *[Case("plain", op, inputs(op)[:3], SIZE, outputs=2) for op in GATES],
    *[Case("bias", op, inputs(op), SIZE, outputs=2) for op in GATES],
    *[Case("begins", op, [*inputs(op), None, H], SIZE, outputs=2) for op in GATES],
    Case("cell", "LSTM", [*inputs("LSTM"), None, H, C], SIZE, outputs=3),
    Case("peepholes", "LSTM", [*inputs("LSTM"), None, H, C, normal(1, 3 * HIDDEN)], SIZE),
    Case("late", "GRU", inputs("GRU"), {**SIZE, "linear_before_reset": 1}, outputs=2),
    Case("size", "RNN", inputs("RNN"), outputs=2, not_onnx="it needs hidden_size"),
    *[
        Case("sizes", op, [X, *weights(op)[:1], normal(1, 7, HIDDEN)], SIZE, fails="expected")
        for op in GATES
    ],
    Case("direction", "LSTM", inputs("LSTM"), {"direction": "up"}, fails="direction is 'up'"),
    Case("curve", "RNN", inputs("RNN"), {"activations": ["Sine"]}, fails="no activation 'Sine'"),
    Case("curves", "GRU", inputs("GRU"), {"activations": ["Tanh"]}, fails="1 activations"),
    Case("sides", "LSTM", inputs("LSTM"), BOTH, fails="expected 2 along axis 0"),
    Case(
        "long", "RNN", [*inputs("RNN"), LENGTHS + 1], SIZE, fails=r"sequence_lens holds 6, outside"
    ),
    Case("types", "LSTM", [*inputs("LSTM"), None, H.astype(np.float64)], SIZE, fails="LSTM"),
]

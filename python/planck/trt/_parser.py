"""`OnnxParser`: reads a model into a network, with every error in one pass."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import Any

from planck import _core
from planck.build import build
from planck.outline import model_of_one_node, read_outline
from planck.trt._base import Sealed
from planck.trt._enums import ErrorCode
from planck.trt._logger import ILogger, failed
from planck.trt._network import INetworkDefinition

_CODES: tuple[tuple[type[_core.Error], ErrorCode], ...] = (
    (_core.ParseError, ErrorCode.MODEL_DESERIALIZE_FAILED),
    (_core.UnsupportedError, ErrorCode.UNSUPPORTED_NODE),
    (_core.GraphError, ErrorCode.INVALID_GRAPH),
    (_core.VersionError, ErrorCode.UNSUPPORTED_GRAPH),
    (_core.OutOfMemoryError, ErrorCode.MEM_ALLOC_FAILED),
)


class ParserError:
    """One error of a model."""

    def __init__(self, error: _core.Error, text: str) -> None:
        self._error = error
        self._text = text

    def code(self) -> ErrorCode:
        """What kind of error it is."""
        found = (code for kind, code in _CODES if isinstance(self._error, kind))
        return next(found, ErrorCode.INVALID_VALUE)

    def desc(self) -> str:
        """What is wrong, and how to mend it."""
        return f"{self._text}\n  hint: {self._error.hint}" if self._error.hint else self._text

    def file(self) -> str:
        """Empty: the place that matters is the node."""
        return ""

    def line(self) -> int:
        """0."""
        return 0

    def func(self) -> str:
        """Empty."""
        return ""

    def node(self) -> int:
        """-1: nodes have names here."""
        return -1

    def node_name(self) -> str:
        """The node, or the first of those with a missing op, where it is known."""
        quoted = re.search(r"'(.*?)'", self._text) if self._error.items else None
        return quoted[1] if quoted else self._error.node

    def node_operator(self) -> str:
        """Its op, where it is known."""
        return self._text.strip().partition(" ")[0] if self._error.items else self._error.op_type

    def local_function_stack(self) -> list[str]:
        """The sub-graphs that lead to the node."""
        return [self._error.subgraph] if self._error.subgraph else []

    def local_function_stack_size(self) -> int:
        """How many they are."""
        return len(self.local_function_stack())

    def __str__(self) -> str:
        """What `desc` says."""
        return self.desc()

    __repr__ = __str__


class OnnxParser(Sealed):
    """Reads ONNX models into a network."""

    def __init__(self, network: INetworkDefinition, logger: ILogger | None = None) -> None:
        self.flags = 0
        self._network = network
        self._logger = logger
        self._errors: list[ParserError] = []
        self._subgraphs: list[tuple[list[int], bool]] = []
        self._sealed = True

    def parse(self, model: bytes, path: str | os.PathLike[str] | None = None) -> bool:
        """Reads a model; False where it has errors, which `get_error` then has.

        path: of the model, in whose folder its external weights are looked for.
        """
        folder = None if path is None else os.path.dirname(os.path.abspath(path))
        return self._parse(bytes(model), folder)

    def parse_from_file(self, model: str | os.PathLike[str]) -> bool:
        """Reads a model from a file, external weights in its folder too."""
        try:
            with open(model, "rb") as file:
                data = file.read()
        except OSError as error:
            self._fail(_core.FileError(f"cannot read '{os.fspath(model)}': {error}"))
            return False
        return self.parse(data, model)

    def _parse(self, model: bytes, folder: str | None) -> bool:
        error = import_error(model, folder)
        if error is not None:
            self._fail(error)
            return False
        self._network._load(model, folder)
        return True

    def _fail(self, error: _core.Error) -> None:
        texts = error.items or (str(error),)
        self._errors += [ParserError(error, text) for text in texts]
        failed(self._logger, error)

    @property
    def num_errors(self) -> int:
        """How many errors there are."""
        return len(self._errors)

    def get_error(self, index: int) -> ParserError:
        """An error."""
        return self._errors[index]

    def clear_errors(self) -> None:
        """Forgets them."""
        self._errors.clear()

    def supports_model(
        self, model: bytes, path: str | os.PathLike[str] | None = None
    ) -> tuple[bool, list[tuple[list[int], bool]]]:
        """Whether a model can be read, and runs of its nodes that can or cannot."""
        folder = None if path is None else os.path.dirname(os.path.abspath(path))
        good = import_error(bytes(model), folder) is None
        if good:
            count = len(read_outline(bytes(model)).nodes)
            self._subgraphs = [(list(range(count)), True)]
        else:
            self._subgraphs = self._runs(bytes(model))
        return good, self._subgraphs

    def supports_model_v2(self, model: bytes, path: str | os.PathLike[str] | None = None) -> bool:
        """Whether a model can be read; `num_subgraphs` and `get_subgraph_nodes` say more."""
        return self.supports_model(model, path)[0]

    def _runs(self, model: bytes) -> list[tuple[list[int], bool]]:
        runs: list[tuple[list[int], bool]] = []
        try:
            nodes = read_outline(model).nodes
        except _core.ParseError:
            return runs
        known: dict[tuple[str, str], bool] = {}
        for index, node in enumerate(nodes):
            key = (node.op_type, node.domain)
            good = known.setdefault(key, self.supports_operator(*key))
            if not runs or runs[-1][1] != good:
                runs.append(([], good))
            runs[-1][0].append(index)
        return runs

    @property
    def num_subgraphs(self) -> int:
        """How many runs of nodes `supports_model_v2` found."""
        return len(self._subgraphs)

    def get_subgraph_nodes(self, index: int) -> list[int]:
        """The nodes of one of them."""
        return list(self._subgraphs[index][0])

    def is_subgraph_supported(self, index: int) -> bool:
        """Whether they can be read."""
        return self._subgraphs[index][1]

    def supports_operator(self, op_name: str, domain: str = "") -> bool:
        """Whether an op is known; a node of it may still be wrong."""
        return not isinstance(
            import_error(model_of_one_node(op_name, domain)), _core.UnsupportedError
        )

    def set_flag(self, flag: int) -> None:
        """Sets a flag, without effect."""
        self.flags |= 1 << int(flag)

    def clear_flag(self, flag: int) -> None:
        """Clears a flag."""
        self.flags &= ~(1 << int(flag))

    def get_flag(self, flag: int) -> bool:
        """Whether a flag is set."""
        return bool(self.flags >> int(flag) & 1)


def import_error(model: bytes, folder: str | None = None) -> _core.Error | None:
    """What keeps a model from being read; None for a good one. Nothing is built."""
    imported = False

    def only_import(stage: str, _: float) -> bool:
        nonlocal imported
        imported = stage != "importing"
        return not imported

    stop: Callable[[str, float], Any] = only_import
    try:
        build(model, external_data_dir=folder, progress=stop)
    except _core.CancelledError as error:
        return None if imported else error
    except _core.Error as error:
        return error
    return None

"""Options of sessions and runs, under the names that ONNX Runtime gives them."""

from __future__ import annotations

import enum
import os
from typing import Any

from planck import _core
from planck.ort._errors import as_ort
from planck.ort._types import Array
from planck.ort._values import OrtValue


class GraphOptimizationLevel(enum.Enum):
    """Which rewrites of the graph a session makes: none, those without fusions, all of them."""

    ORT_DISABLE_ALL = 0
    ORT_ENABLE_BASIC = 1
    ORT_ENABLE_EXTENDED = 2
    ORT_ENABLE_LAYOUT = 3
    ORT_ENABLE_ALL = 99

    def __int__(self) -> int:
        return self.value


class ExecutionMode(enum.Enum):
    """Whether steps run one after another. Planck's always do, each on all threads."""

    ORT_SEQUENTIAL = 0
    ORT_PARALLEL = 1

    def __int__(self) -> int:
        return self.value


class _Options:
    """Attributes; the types of their defaults are fixed. Errors: AttributeError, TypeError."""

    def __init__(self) -> None:
        self._cancel = _core.Cancel()
        self._entries: dict[str, str] = {}

    def __setattr__(self, name: str, value: Any) -> None:
        if name.startswith("_"):
            return super().__setattr__(name, value)
        kind = type(self).__name__
        if not hasattr(type(self), name):
            raise AttributeError(f"'{kind}' object has no attribute '{name}'")
        want = type(getattr(type(self), name))
        if want is property:
            return super().__setattr__(name, value)
        if not isinstance(value, want) or (want is int and isinstance(value, bool)):
            raise TypeError(f"{kind}.{name} is {type(value).__name__}; expected {want.__name__}")
        super().__setattr__(name, value)

    def _add(self, key: str, value: str) -> None:
        if not isinstance(key, str) or not isinstance(value, str):
            raise TypeError("keys and values of configuration entries are strings")
        self._entries[key] = value

    def _get(self, key: str) -> str:
        if key not in self._entries:
            kind = type(self).__name__
            raise RuntimeError(f"{kind} does not have configuration with key: {key}")
        return self._entries[key]


class SessionOptions(_Options):
    """How a session builds and runs its model.

    graph_optimization_level, intra_op_num_threads (up to 0: affinity and quota), enable_profiling
    with profile_file_prefix, free dimension overrides, initializers and optimized_model_filepath
    (a name ending in .plan, see `planck.load`) do what they say; so do the configuration entries
    session.model_external_initializers_file_folder_path and session.set_denormal_as_zero ("1" or
    "0"; it holds in runs of the session alone). The others are taken and change nothing:
    steps run one after another, runs are deterministic, memory is planned when shapes are first
    met, and what is logged is a matter of `logging.getLogger("planck")`.
    Errors: AttributeError for an unknown name, TypeError for a value of another type.

    >>> options = SessionOptions()
    >>> options.intra_op_num_threads = 2
    >>> options.graph_optimization_level = GraphOptimizationLevel.ORT_DISABLE_ALL
    """

    enable_cpu_mem_arena: bool = True
    enable_mem_pattern: bool = True
    enable_mem_reuse: bool = True
    enable_profiling: bool = False
    execution_mode: ExecutionMode = ExecutionMode.ORT_SEQUENTIAL
    graph_optimization_level: GraphOptimizationLevel = GraphOptimizationLevel.ORT_ENABLE_ALL
    inter_op_num_threads: int = 0
    intra_op_num_threads: int = 0
    log_severity_level: int = 2
    log_verbosity_level: int = 0
    logid: str = ""
    optimized_model_filepath: str = ""
    profile_file_prefix: str = "onnxruntime_profile_"
    use_deterministic_compute: bool = False
    use_per_session_threads: bool = True

    def __init__(self) -> None:
        super().__init__()
        self._dims: dict[str, int] = {}
        self._initializers: dict[str, Array] = {}

    def add_free_dimension_override_by_name(self, name: str, value: int) -> None:
        """Builds for this extent of the model's symbolic dimension; unknown names are ignored."""
        if not isinstance(name, str) or not isinstance(value, int):
            raise TypeError("a dimension override is a name and an extent")
        self._dims[name] = value

    def add_session_config_entry(self, key: str, value: str) -> None:
        """Keeps the entry, whatever it is."""
        self._add(key, value)

    def get_session_config_entry(self, key: str) -> str:
        """The entry's value. Errors: RuntimeError."""
        return self._get(key)

    def set_load_cancellation_flag(self, value: bool) -> None:
        """True ends a load with these options, from any thread: ModelLoadCanceled."""
        if value:
            self._cancel.request()
        else:
            self._cancel = _core.Cancel()

    def add_initializer(self, name: str, value: OrtValue) -> None:
        """Builds with this value, of the same type, in place of the model's; it is copied then."""
        if not isinstance(name, str) or not isinstance(value, OrtValue):
            raise TypeError("an initializer is a name and an OrtValue")
        self._initializers[name] = value.numpy()

    def register_custom_ops_library(self, path: str | os.PathLike[str]) -> None:
        """Is not supported: ONNX Runtime's libraries have its interface. Errors: NotImplemented."""
        raise as_ort(
            _core.UnsupportedError(
                f"'{os.fspath(path)}' has the interface of ONNX Runtime's custom ops, which Planck "
                "does not have; write the op as a function inside the model"
            )
        )


class RunOptions(_Options):
    """How one run, or several, behave.

    terminate, which any thread may set, ends the runs that were given these options. All outputs
    are always computed, so only_execute_path_to_fetches changes nothing, nor do the others.

    >>> options = RunOptions()
    >>> options.terminate
    False
    """

    log_severity_level: int = -1
    log_verbosity_level: int = 0
    logid: str = ""
    only_execute_path_to_fetches: bool = False

    @property
    def terminate(self) -> bool:
        """Whether runs with these options end as soon as they can."""
        return self._cancel.requested

    @terminate.setter
    def terminate(self, value: bool) -> None:
        if value:
            self._cancel.request()
        else:
            self._cancel = _core.Cancel()

    def add_run_config_entry(self, key: str, value: str) -> None:
        """Keeps the entry; no entry changes anything."""
        self._add(key, value)

    def get_run_config_entry(self, key: str) -> str:
        """The entry's value. Errors: RuntimeError."""
        return self._get(key)

"""`InferenceSession`: a plan behind ONNX Runtime's interface."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar

from planck import _core
from planck.build import build
from planck.by_value import ValuePlans
from planck.ort import _model, _providers
from planck.ort._binding import IOBinding
from planck.ort._errors import as_ort, of_type, translated
from planck.ort._feeds import Feeds
from planck.ort._model import ModelFacts, ModelMetadata
from planck.ort._options import GraphOptimizationLevel, RunOptions, SessionOptions
from planck.ort._ports import NodeArg, node_args, overridable
from planck.ort._profile import Profile
from planck.ort._types import Array
from planck.ort._values import OrtValue
from planck.ort.capi import onnxruntime_pybind11_state as state
from planck.plan import Plan, Port, StepTime, load

Options = TypeVar("Options", SessionOptions, RunOptions)

_PLAN_MAGIC = b"\x89PLAN\r\n\x1a"

# The passes that ONNX Runtime's levels leave; the others are fusions.
_NEEDED = ("infer", "fold", "shapes")
_BASIC = ("dead_code", "drop_identity", "merge_views", "simplify", "cse", *_NEEDED)
_LEVELS = {
    GraphOptimizationLevel.ORT_DISABLE_ALL: _NEEDED,
    GraphOptimizationLevel.ORT_ENABLE_BASIC: _BASIC,
}


class InferenceSession:
    """A model, ready to run from any number of threads.

    >>> import tempfile, pathlib, planck.models
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "bert.onnx"
    >>> planck.models.write("bert_encoder", path, size="mini")
    >>> session = InferenceSession(path)
    >>> print(session.get_inputs()[0])
    NodeArg(name='input_ids', type='tensor(int64)', shape=['batch_size', 'length'])
    >>> feeds = planck.models.feeds("bert_encoder", (2, 5), size="mini")
    >>> session.run(["last_hidden_state"], feeds)[0].shape
    (2, 5, 64)
    """

    def __init__(
        self,
        path_or_bytes: str | bytes | os.PathLike[str],
        sess_options: SessionOptions | None = None,
        providers: Sequence[str | tuple[str, Mapping[str, Any]]] | None = None,
        provider_options: Sequence[Mapping[str, Any]] | None = None,
    ) -> None:
        """Builds an ONNX model, or loads a plan file; either as a path or as bytes.

        providers: names, or (name, options); names that are not there give one warning, and an
        error if they ask for CUDA without the CPU behind it.
        Errors: NoSuchFile, NoModel (empty), InvalidProtobuf (no ONNX), InvalidGraph (breaks ONNX's
        rules), NotImplemented (lists every op that is missing), InvalidArgument, EPFail,
        RuntimeException (a limit), ModelLoadCanceled, ModelRequiresCompilation (plan of another
        machine), Fail; each is also the class of `planck` that `planck.build` raises.
        """
        options = SessionOptions() if sess_options is None else sess_options
        self._options = _checked(options, SessionOptions)
        self._profile = Profile(options.profile_file_prefix) if options.enable_profiling else None
        begin = time.time_ns()
        with translated(loading=True):
            _providers.check(providers, provider_options)
            source = _source(path_or_bytes, options)
            self._plan, self._facts = source()
        if self._profile is not None:
            self._profile.add_load(begin)
        self._inputs, self._outputs = node_args(self._plan, self._facts)
        pairs = zip(self._outputs, self._plan.outputs, strict=True)
        self._ports = {port.name: (arg, port) for arg, port in pairs}
        optional = overridable(self._facts)
        self._feeds = Feeds(self._inputs, optional)
        # Plans by the initializers that are fed to them, and what they are built from.
        self._plans: dict[frozenset[str], Plan | ValuePlans] = {frozenset(): self._plan}
        self._source = source if optional else None
        self._plans_lock = threading.Lock()

    def get_inputs(self) -> list[NodeArg]:
        """The inputs that must be fed, in the model's order."""
        return list(self._inputs)

    def get_outputs(self) -> list[NodeArg]:
        """The outputs, in the model's order."""
        return list(self._outputs)

    def get_overridable_initializers(self) -> list[NodeArg]:
        """The inputs that have an initializer and may be fed.

        When some of them are fed for the first time, a plan is built that takes these as inputs.
        """
        return overridable(self._facts)

    def get_modelmeta(self) -> ModelMetadata:
        """What the model says about itself; empty for a plan file."""
        return self._facts.metadata

    def get_session_options(self) -> SessionOptions:
        """The options that the session was made with."""
        return self._options

    def get_providers(self) -> list[str]:
        """The providers in use."""
        return _providers.get_available_providers()

    def get_provider_options(self) -> dict[str, dict[str, str]]:
        """Their options, by name."""
        return {name: {} for name in self.get_providers()}

    def set_providers(
        self,
        providers: Sequence[str | tuple[str, Mapping[str, Any]]] | None = None,
        provider_options: Sequence[Mapping[str, Any]] | None = None,
    ) -> None:
        """Checks what is asked for, and stays on the CPU. Errors: InvalidArgument, EPFail."""
        with translated():
            _providers.check(providers, provider_options)

    def enable_fallback(self) -> None:
        """Changes nothing: a failed run is an error, and is never repeated elsewhere."""

    def disable_fallback(self) -> None:
        """Changes nothing: a failed run is an error, and is never repeated elsewhere."""

    def get_tuning_results(self) -> list[dict[str, Any]]:
        """Nothing: no provider here tunes at run time."""
        return []

    def set_tuning_results(
        self, results: Sequence[Mapping[str, Any]], *, error_on_invalid: bool = False
    ) -> None:
        """Ignores results of other providers. Errors: InvalidArgument, with error_on_invalid."""
        if results and error_on_invalid:
            raise as_ort(_core.UsageError("no provider of this session takes tuning results"))

    def run(
        self,
        output_names: Sequence[str] | None,
        input_feed: Mapping[str, Any],
        run_options: RunOptions | None = None,
    ) -> list[Array]:
        """Runs the model and returns the named outputs, or all of them, as arrays.

        input_feed: arrays by name, of exactly the inputs' dtypes and ranks; OrtValues, objects with
        DLPack and lists too.
        Errors: ValueError for missing inputs; InvalidArgument for an array that does not fit;
        RuntimeException for a value that is wrong, or a limit; Fail when terminated.
        """
        with translated():
            names = self._names(output_names)
            results = self._execute(self._feeds.arrays(input_feed), None, run_options)
        return [results[name] for name in names]

    def run_async(
        self,
        output_names: Sequence[str] | None,
        input_feed: Mapping[str, Any],
        callback: Callable[[list[Array], Any, str], object],
        user_data: Any,
        run_options: RunOptions | None = None,
    ) -> None:
        """Runs the model on another thread, which then calls callback(results, user_data, err).

        err is the text of what went wrong, or "". Errors: ValueError for missing inputs.
        """
        if not callable(callback):
            raise TypeError(f"the callback is {type(callback).__name__}; expected a callable")
        with translated():
            self._feeds.require(input_feed)

        def work() -> None:
            results: list[Array] = []
            failure = ""
            try:
                results = self.run(output_names, input_feed, run_options)
            except Exception as error:
                failure = str(error.__cause__ or error)  # without status, as in ONNX Runtime
            callback(results, user_data, failure)

        threading.Thread(target=work, name="planck.run_async").start()

    def run_with_ort_values(
        self,
        output_names: Sequence[str] | None,
        input_dict_ort_values: Mapping[str, OrtValue],
        run_options: RunOptions | None = None,
    ) -> list[OrtValue]:
        """The same as `run` on OrtValues."""
        return [OrtValue(a) for a in self.run(output_names, input_dict_ort_values, run_options)]

    def io_binding(self) -> IOBinding:
        """Something to bind inputs and outputs to."""
        return IOBinding(self)

    def run_with_iobinding(
        self, iobinding: IOBinding, run_options: RunOptions | None = None
    ) -> None:
        """Runs the model on what is bound, without copies. Errors: those of `run`."""
        if iobinding._session is not self:
            raise ValueError("IOBinding must be used with the session that created it.")
        out = {name: array for name, array in iobinding._outputs.items() if array is not None}
        with translated():
            if not iobinding._outputs:
                raise _core.UsageError("At least one output should be requested.")
            feeds = self._feeds.require(iobinding._inputs)
            iobinding._results = self._execute(feeds, out, run_options)

    def end_profiling(self) -> str:
        """Writes the profile, a Chrome trace, and returns its name; "" where there is none.

        Errors: NoSuchFile where it cannot be written.
        """
        profile, self._profile = self._profile, None
        if profile is None:
            return ""
        with translated():
            return profile.write()

    def get_profiling_start_time_ns(self) -> int:
        """When profiling began, in nanoseconds since 1970; 0 where there is none."""
        return 0 if self._profile is None else self._profile.start_ns

    def __reduce__(self) -> NoReturn:
        """Threads, weights and options stay in this process. Errors: TypeError says what to do."""
        raise TypeError(
            "a session is not pickled: pass the path of the model or plan file, and let each "
            "process make its own InferenceSession; those of one plan file share its weights"
        )

    def _names(self, asked: Sequence[str] | None) -> list[str]:
        if isinstance(asked, str):
            raise TypeError("output_names is a str; expected a list of names")
        names = list(asked or self._ports)
        for name in names:
            self._output(name)
        return names

    def _output(self, name: str) -> tuple[NodeArg, Port]:
        """An output by its name. Errors: UsageError."""
        if name not in self._ports:
            raise _core.UsageError(f"Invalid output name:{name}")
        return self._ports[name]

    def _execute(
        self,
        feeds: Mapping[str, Array],
        out: Mapping[str, Array] | None,
        run_options: RunOptions | None,
    ) -> dict[str, Array]:
        cancel = None if run_options is None else _checked(run_options, RunOptions)._cancel
        plan, feeds = self._plan_for(feeds)
        profile = self._profile
        times: list[StepTime] | None = None if profile is None else []
        begin = time.time_ns()
        try:
            results = plan.run(feeds, out, cancel=cancel, times=times)
        except _core.CancelledError as error:
            text = "Exiting due to terminate flag being set to true."
            raise of_type(state.Fail, error, text) from error
        if profile is not None:
            profile.add_run(begin, plan.steps, times or ())
        return results

    def _plan_for(self, feeds: Mapping[str, Array]) -> tuple[Plan, Mapping[str, Array]]:
        """The plan whose inputs are those that are fed, and what to feed to it."""
        plan = self._plan
        if len(feeds) != len(self._inputs):
            plan = self._plan_with(frozenset(feeds.keys() - {arg.name for arg in self._inputs}))
        return plan.plan_for(feeds) if isinstance(plan, ValuePlans) else (plan, feeds)

    def _plan_with(self, fed: frozenset[str]) -> Plan | ValuePlans:
        """The plan to which these initializers are fed."""
        if fed not in self._plans:
            with self._plans_lock:
                if fed not in self._plans:
                    assert self._source is not None
                    self._plans[fed] = self._source(fed_initializers=fed)[0]
        return self._plans[fed]


def _checked(options: Options, want: type[Options]) -> Options:
    if not isinstance(options, want):
        raise TypeError(f"options are {type(options).__name__}; expected {want.__name__}")
    return options


@dataclass(frozen=True, slots=True)
class _Source:
    """What a session was made from, to build it again with other inputs."""

    model: str | bytes
    is_plan: bool
    options: dict[str, Any]  # of planck.build
    saved: str  # where the plan goes, if anywhere

    def __call__(
        self, fed_initializers: Collection[str] = ()
    ) -> tuple[Plan | ValuePlans, ModelFacts]:
        model = self.model
        if self.is_plan:
            how = {name: self.options[name] for name in ("threads", "denormals")}
            return load(model, **how), ModelFacts()
        plan = self._built(fed_initializers)
        if isinstance(model, bytes):
            return plan, _model.read_bytes(model)
        return plan, _model.read_file(model)

    def _built(self, fed_initializers: Collection[str]) -> Plan | ValuePlans:
        """The plan, saved where the options say so. Errors: those of `planck.build`."""

        def build_with(values: Mapping[str, Array]) -> Plan:
            options = {**self.options, "initializers": {**self.options["initializers"], **values}}
            return build(self.model, fed_initializers=fed_initializers, **options)

        try:
            plan = build_with({})
        except _core.UnsupportedError as refusal:
            if self.saved:
                raise
            return ValuePlans(self.model, build_with, refusal)
        if self.saved and not fed_initializers:
            plan.save(self.saved)
        return plan


def _source(model: Any, options: SessionOptions) -> _Source:
    """Checks what a session is made from. Errors: TypeError, FileError, NoModel, UsageError."""
    if not isinstance(model, (str, bytes, os.PathLike)):
        raise TypeError(f"Unable to load from type '{type(model)}'")
    model = model if isinstance(model, bytes) else os.fspath(model)
    saved = options.optimized_model_filepath
    if saved and not saved.endswith(".plan"):
        raise _core.UnsupportedError(
            f"'{saved}': an optimized graph cannot be written as ONNX yet; a name that ends in "
            ".plan gets the plan, which InferenceSession loads"
        )
    head = model[:8] if isinstance(model, bytes) else _head(model)
    if not head:
        raise of_type(state.NoModel, _core.ParseError(), "the model is empty")
    is_plan = head == _PLAN_MAGIC
    level = options.graph_optimization_level
    if is_plan and (options._dims or options._initializers or level in _LEVELS):
        raise _core.UsageError(
            "this is a plan: dimension overrides, initializers and optimization levels are for "
            "ONNX models"
        )
    return _Source(model, is_plan, _build_options(model, options), saved)


def _build_options(model: str | bytes, options: SessionOptions) -> dict[str, Any]:
    kept = _LEVELS.get(options.graph_optimization_level, _core.pass_names())
    folder = options._entries.get("session.model_external_initializers_file_folder_path")
    return {
        "threads": max(options.intra_op_num_threads, 0) or None,
        "denormals": _denormals(options),
        "disabled_passes": [name for name in _core.pass_names() if name not in kept],
        "dims": dict(options._dims),
        "initializers": dict(options._initializers),
        "external_data_dir": folder if isinstance(model, bytes) else None,
        "cancel": options._cancel,
    }


def _denormals(options: SessionOptions) -> str:
    """Errors: UsageError for an entry that is neither "0" nor "1"."""
    key = "session.set_denormal_as_zero"
    given = options._entries.get(key, "0")
    if given not in ("0", "1"):
        error = _core.UsageError(f"{key} is {given!r}; expected '0' or '1'")
        error.expected, error.got = "0, 1", given
        raise error
    return "flush" if given == "1" else "compute"


def _head(path: str) -> bytes:
    """The first bytes of a file; none of a pipe, which is not waited for. Errors: FileError."""

    def opener(name: str, flags: int) -> int:
        return os.open(name, flags | os.O_NONBLOCK)

    try:
        with open(path, "rb", opener=opener) as file:
            return file.read(len(_PLAN_MAGIC))
    except FileNotFoundError as error:
        raise _core.FileError(
            f"Load model from {path} failed:Load model {path} failed. File doesn't exist"
        ) from error
    except (OSError, ValueError) as error:
        raise _core.FileError(f"Load model from {path} failed:{error}") from error

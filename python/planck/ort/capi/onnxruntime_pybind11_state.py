"""The error types of ONNX Runtime. Each is a `planck.Error`, and where one error of ours means the
same, a subclass of it; what is raised is always a subclass of ours as well.

>>> import planck
>>> issubclass(InvalidArgument, planck.UsageError), issubclass(NoSuchFile, OSError)
(True, True)
"""

from __future__ import annotations

from planck import _core

__all__ = [
    "DeviceReset",
    "EPFail",
    "EngineError",
    "Fail",
    "InvalidArgument",
    "InvalidGraph",
    "InvalidProtobuf",
    "ModelLoadCanceled",
    "ModelLoaded",
    "ModelRequiresCompilation",
    "NoModel",
    "NoSuchFile",
    "NotFound",
    "NotImplemented",
    "RuntimeException",
]


class Fail(_core.Error):
    """Everything that no other type stands for."""

    status = (1, "FAIL")


class InvalidArgument(_core.UsageError):
    """A call, an option or a fed array is wrong."""

    status = (2, "INVALID_ARGUMENT")


class NoSuchFile(_core.FileError):
    """A file cannot be read or written."""

    status = (3, "NO_SUCHFILE")


class NoModel(_core.ParseError):
    """The model is empty."""

    status = (4, "NO_MODEL")


class EngineError(_core.InternalError):
    """A mistake of ours."""

    status = (5, "ENGINE_ERROR")


class RuntimeException(_core.Error):
    """A value met at run time is wrong, or more is asked for than limits or memory allow."""

    status = (6, "RUNTIME_EXCEPTION")


class InvalidProtobuf(_core.ParseError):
    """The bytes are no ONNX model."""

    status = (7, "INVALID_PROTOBUF")


class ModelLoaded(_core.Error):
    """A session is given a second model. Never raised."""

    status = (8, "MODEL_LOADED")


class NotImplemented(_core.UnsupportedError):
    """Valid, but not there yet."""

    status = (9, "NOT_IMPLEMENTED")


class InvalidGraph(_core.Error):
    """The model or its external data break ONNX's rules."""

    status = (10, "INVALID_GRAPH")


class EPFail(_core.DeviceError):
    """The device is not there or failed."""

    status = (11, "EP_FAIL")


class ModelLoadCanceled(_core.CancelledError):
    """Somebody asked to end the load."""

    status = (12, "MODEL_LOAD_CANCELED")


class ModelRequiresCompilation(_core.TargetError):
    """A plan file is for another machine."""

    status = (13, "MODEL_REQUIRES_COMPILATION")


class NotFound(_core.Error):
    """Something that was named is not there. Never raised."""

    status = (14, "NOT_FOUND")


class DeviceReset(_core.DeviceError):
    """The GPU was lost. Never raised on a CPU."""

    status = (15, "DEVICE_RESET")

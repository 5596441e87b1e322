"""`planck.Limits`: what a model, a plan file and a run may ask for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

from planck import _core

Profile = Literal["default", "tight"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Limits by name; None takes the value of the profile. docs/limits.md says what each means.

    >>> Limits(profile="tight", build_timeout=5.0).given()
    {'profile': 'tight', 'build_timeout': 5.0}
    """

    profile: Profile = "default"
    model_bytes: int | None = None
    parse_bytes: int | None = None
    nesting: int | None = None
    name_bytes: int | None = None
    rank: int | None = None
    nodes: int | None = None
    functions: int | None = None
    call_depth: int | None = None
    subgraph_depth: int | None = None
    constants_bytes: int | None = None
    initializer_bytes: int | None = None
    fold_node_bytes: int | None = None
    fold_model_bytes: int | None = None
    build_timeout: float | None = None
    plan_bytes: int | None = None
    plan_metadata_bytes: int | None = None
    load_timeout: float | None = None
    max_tensor_bytes: int | None = None
    max_arena_bytes: int | None = None
    run_timeout: float | None = None

    def given(self) -> dict[str, Any]:
        """What is set, by name."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if value is not None}


LimitsLike = Profile | Limits | Mapping[str, Any]


def as_dict(limits: LimitsLike) -> dict[str, Any]:
    """What the core takes. Errors: UsageError."""
    if isinstance(limits, str):
        return {"profile": limits}
    if isinstance(limits, Limits):
        return limits.given()
    if isinstance(limits, Mapping):
        return dict(limits)
    raise _core.UsageError(
        f"limits is {type(limits).__name__}; expected 'default', 'tight', a dict or planck.Limits"
    )


def table() -> str:
    """The table of docs/limits.md."""
    lines = [
        "| limit | default | tight | most | what it bounds |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, default, tight, most, _, doc, _ in _core.limits():
        lines.append(f"| `{name}` | {default} | {tight} | {most} | {doc} |")
    return "\n".join(lines) + "\n"

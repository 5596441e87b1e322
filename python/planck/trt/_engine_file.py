"""What an engine file adds to a plan: the optimization profiles, in an optional section.

So an engine file is a plan file: `planck.load` takes it, and takes no notice of the section.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from typing import Any

from planck import _core
from planck.trt._profile import IOptimizationProfile

MAGIC = b"\x89PLAN\r\n\x1a"
_KIND = 0x50545254  # "TRTP"
_HEADER, _ROW = 64, 48
_COUNT_AT, _SIZE_AT = 24, 32  # in the header: sections, size of the file
_WEIGHTS, _WEIGHT_ALIGN, _ALIGN = 3, 2 << 20, 64
_MOST_BYTES = 1 << 20
_MOST_SECTIONS = 64


def _sections(plan: bytes) -> list[tuple[bytes, int, int, int]]:
    """Row of the table, kind, offset and size of each section; none where there is no table."""
    if len(plan) < _HEADER or not plan.startswith(MAGIC):
        return []
    (count,) = struct.unpack_from("<I", plan, _COUNT_AT)
    out = []
    for index in range(min(count, _MOST_SECTIONS)):
        row = plan[_HEADER + index * _ROW : _HEADER + (index + 1) * _ROW]
        if len(row) == _ROW:
            kind, _, offset, size = struct.unpack_from("<IIQQ", row)
            out.append((row, kind, offset, size))
    return out


def with_profiles(plan: bytes, profiles: Sequence[IOptimizationProfile]) -> bytes:
    """The plan file with the profiles in a section behind its own."""
    if not profiles:
        return plan
    content = json.dumps([profile.to_dict() for profile in profiles]).encode()
    rows = _sections(plan)
    pieces = [(kind, row, plan[offset : offset + size]) for row, kind, offset, size in rows]
    pieces.append((_KIND, struct.pack("<IIQQ24x", _KIND, 0, 0, len(content)), content))
    out = bytearray(plan[:_HEADER])
    out += b"".join(row for _, row, _ in pieces)
    for index, (kind, _, data) in enumerate(pieces):
        align = _WEIGHT_ALIGN if kind == _WEIGHTS else _ALIGN
        out += bytes(-len(out) % align)
        struct.pack_into("<Q", out, _HEADER + index * _ROW + 8, len(out))
        out += data
    struct.pack_into("<I", out, _COUNT_AT, len(pieces))
    struct.pack_into("<Q", out, _SIZE_AT, len(out))
    return _core.rehash_plan(bytes(out))


def profiles_of(plan: bytes) -> list[IOptimizationProfile]:
    """The profiles of an engine file. Errors: CorruptError."""
    for _, kind, offset, size in _sections(plan):
        if kind != _KIND:
            continue
        if size > _MOST_BYTES:
            raise _core.CorruptError(f"the profiles of the engine have {size} bytes")
        try:
            data: Any = json.loads(plan[offset : offset + size])
            return [IOptimizationProfile.from_dict(row) for row in data]
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise _core.CorruptError(
                f"the profiles of the engine are damaged: {error!r}"
            ) from error
    return []

"""Protobuf's wire format, as far as names, types and shapes in an ONNX file need it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

_VARINT, _FIXED64, _SIZED, _FIXED32 = 0, 1, 2, 5
_FIXED = {_FIXED64: 8, _FIXED32: 4}


@dataclass(frozen=True, slots=True)
class Message:
    """A range of the file; what a field holds is read before the next field is asked for."""

    stream: BinaryIO
    end: int

    def fields(self) -> Iterator[tuple[int, int]]:
        """Field numbers, each with its number or its size; the stream stands at its bytes.

        Errors: IndexError where a field is cut off, KeyError for a kind of field that is unknown.
        """
        while self.stream.tell() < self.end:
            tag = self.varint()
            kind = tag & 7
            if kind == _VARINT:
                yield tag >> 3, self.varint()
                continue
            size = self.varint() if kind == _SIZED else _FIXED[kind]
            after = self.stream.tell() + size
            if after > self.end:
                raise IndexError(size)
            yield tag >> 3, size
            self.stream.seek(after)

    def inner(self, size: int) -> Message:
        """The message of `size` bytes at which the stream stands."""
        return Message(self.stream, self.stream.tell() + size)

    def text(self, size: int) -> str:
        """The next `size` bytes as text; what is not UTF-8 is escaped."""
        return self.stream.read(size).decode("utf-8", "backslashreplace")

    def varint(self) -> int:
        """The next number, as 64 bits without sign. Errors: IndexError."""
        value = 0
        for shift in range(0, 70, 7):
            byte = self.stream.read(1)[0]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
        raise IndexError("a number has more than 64 bits")


def signed(value: int) -> int:
    """The same 64 bits as a number with sign.

    >>> signed(2**64 - 1)
    -1
    """
    return value - (1 << 64) if value >> 63 else value

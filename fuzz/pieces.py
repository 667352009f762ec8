"""A fuzzer's bytes taken apart: choices, numbers, and edits of something that is right."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")

#: Where arithmetic ends, in the eight bytes that a record's numbers have.
NUMBERS = [0, 1, 2**31, 2**32, 2**53, 253402300800000, 2**63 - 1, 2**63, 2**64 - 1]


class Pieces:
    """Taken from the front. When nothing is left, there are zeros."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def left(self) -> bool:
        return self._at < len(self._data)

    def rest(self) -> bytes:
        return self.take(len(self._data))

    def take(self, size: int) -> bytes:
        taken = self._data[self._at : self._at + size]
        self._at += len(taken)
        return taken

    def number(self, size: int = 1) -> int:
        return int.from_bytes(self.take(size))

    def choose(self, choices: Sequence[T]) -> T:
        return choices[self.number() % len(choices)]

    def edit(self, right: bytes) -> bytes:
        """As many edits as there are bytes for."""
        edited = right
        while self.left:
            how, at = self.number() % 8, self.number(2) % (len(edited) + 1)
            size = 1 + self.number() % 16
            before, after = edited[:at], edited[at:]
            if how == 0:  # another bit
                flipped = [after[0] ^ 1 << size % 8] if after else []
                edited = before + bytes(flipped) + after[1:]
            elif how == 1:  # other bytes
                new = self.take(size)
                edited = before + new + after[len(new) :]
            elif how == 2:  # more of them
                edited = before + self.take(size) + after
            elif how == 3:  # fewer
                edited = before + after[size:]
            elif how == 4:  # cut off
                edited = before
            elif how == 5:  # some of them twice
                edited = before + after[:size] + after
            elif how == 6:  # another number
                edited = before + NUMBERS[size % len(NUMBERS)].to_bytes(8) + after[8:]
            else:  # more at the end
                edited += self.take(size)
        return edited

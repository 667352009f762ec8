"""Tables that fit the terminal, whatever stands in them."""

from __future__ import annotations

import shutil
import unicodedata
from collections.abc import Collection
from collections.abc import Iterable
from collections.abc import Sequence

_GAP = "  "
_ELLIPSIS = "\N{HORIZONTAL ELLIPSIS}"
#: A column is not made narrower than this.
_NARROWEST = 6


class Table:
    """Columns as wide as some rows need and the terminal allows; others are made to fit.

    :param titles: one for each column, the most important column first.
    :param rows: by which the columns are measured.
    :param elastic: the titles of the columns that may be shortened. If that is not enough, the
        last columns are left out.
    :param room: the terminal's width. Default: as it is, or as ``COLUMNS`` says.
    """

    def __init__(
        self,
        titles: Sequence[str],
        rows: Iterable[Sequence[str]],
        elastic: Collection[str] = (),
        room: int | None = None,
    ) -> None:
        self._titles = titles
        self._widths = [
            max(map(_width, map(printable, column)))
            for column in zip(titles, *rows, strict=True)
        ]
        room = room or shutil.get_terminal_size().columns
        while self._fit(room, elastic) > room and len(self._widths) > 1:
            self._widths.pop()

    @property
    def left_out(self) -> Sequence[str]:
        """The titles of the columns for which there is no room."""
        return self._titles[len(self._widths) :]

    @property
    def head(self) -> str:
        return self.line(self._titles)

    def line(self, row: Sequence[str]) -> str:
        """One row, without a line break."""
        cells = zip(map(printable, row), self._widths, strict=False)
        return _GAP.join(_fitted(cell, width) for cell, width in cells).rstrip()

    def _fit(self, room: int, elastic: Collection[str]) -> int:
        """Make elastic columns narrower, the widest first. :returns: the width of it all."""
        widths = self._widths
        while True:
            total = sum(widths) + len(_GAP) * (len(widths) - 1)
            left = [
                n
                for n, (width, title) in enumerate(zip(widths, self._titles, strict=False))
                if title in elastic and width > _NARROWEST
            ]
            if total <= room or not left:
                return total
            widest = max(left, key=lambda n: widths[n])
            widths[widest] -= 1


def printable(text: str) -> str:
    """The text with nothing in it that could direct a terminal, or turn round what follows."""
    return "".join(c if c.isprintable() else _escaped(c) for c in text)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode()


def _width(text: str) -> int:
    """How many places it takes, of those that have been made printable."""
    return sum(map(_places, text))


def _places(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def _fitted(text: str, width: int) -> str:
    taken = _width(text)
    if taken > width:
        while taken > width - 1:
            taken -= _places(text[-1])
            text = text[:-1]
        text += _ELLIPSIS
        taken += 1
    return text + " " * (width - taken)

"""What goes to standard output, and the bar that goes to a terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from collections.abc import Iterator
from typing import TypeVar

import click

T = TypeVar("T")


def say(lines: Iterable[str]) -> None:
    """With escapes for characters that the terminal does not have."""
    encoding = sys.stdout.encoding or "utf-8"
    for line in lines:
        click.echo(line.encode(encoding, "backslashreplace").decode(encoding))


def watched(
    items: Iterable[T], label: str, length: int | None = None, hidden: bool = False
) -> Iterator[T]:
    """The same items; as they are taken, a bar grows, if standard error is a terminal."""
    if hidden or not sys.stderr.isatty():
        yield from items
        return
    with click.progressbar(items, length=length, label=label, file=sys.stderr) as bar:
        yield from bar


def counted(number: int, noun: str = "session") -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"

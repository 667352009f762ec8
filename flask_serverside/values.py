"""Configuration values: each takes the real type, or a plain string that says the same."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Any
from typing import TypeVar

from .errors import ConfigurationError

T = TypeVar("T", bound=str)

#: The longest time that any server and any date type can hold with room to spare.
LONGEST = timedelta(days=36500)

#: The name of a cookie or a header (RFC 9110, 5.6.2).
TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")

_WORDS = {"true": True, "yes": True, "on": True, "1": True}
_WORDS |= {"false": False, "no": False, "off": False, "0": False}


def boolean(
    config: Mapping[str, Any], key: str, default: bool, allowed: str = "true or false"
) -> bool:
    value = config.get(key, default)
    if isinstance(value, bool):
        return value
    if isinstance(value, str | int) and str(value).lower() in _WORDS:
        return _WORDS[str(value).lower()]
    raise ConfigurationError(key, value, allowed)


def choice(config: Mapping[str, Any], key: str, words: tuple[T, ...]) -> T:
    """One of the words; the first is the default."""
    value = config.get(key, words[0])
    for word in words:
        if isinstance(value, str) and value == word:
            return word
    raise ConfigurationError(key, value, f"one of {', '.join(words)}")


def seconds(value: Any) -> float | None:
    """A timedelta, a number of seconds or either written as a string; ``None``: neither."""
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def duration(
    config: Mapping[str, Any], key: str, default: float, *, zero: bool = False
) -> float:
    """Seconds: more than zero or, with ``zero``, zero or more."""
    value = config.get(key, default)
    number = seconds(value)
    if number is None or not (0 if zero else 0.001) <= number <= LONGEST.total_seconds():
        least = "zero or more" if zero else "more than zero"
        raise ConfigurationError(
            key, value, f"a timedelta or seconds, {least}, at most {LONGEST.days} days"
        )
    return number


def optional_duration(config: Mapping[str, Any], key: str) -> float | None:
    return None if config.get(key) is None else duration(config, key, 0)


def integer(config: Mapping[str, Any], key: str, default: int, *, least: int, most: int) -> int:
    value = config.get(key, default)
    number = int(value) if isinstance(value, str) and value.strip().isdecimal() else value
    if isinstance(number, bool) or not isinstance(number, int) or not least <= number <= most:
        raise ConfigurationError(key, value, f"a whole number from {least} to {most}")
    return number


def optional_text(config: Mapping[str, Any], key: str) -> str | None:
    return None if config.get(key) is None else text(config, key, "")


def text(config: Mapping[str, Any], key: str, default: str) -> str:
    value = config.get(key, default)
    if not isinstance(value, str) or not value:
        raise ConfigurationError(key, value, "a string that is not empty")
    return value

"""The dict that a session is, whenever its data comes."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any
from typing import Self

from flask.sessions import SessionMixin


class LazyMapping(SessionMixin):
    """All of a dict that changes nothing but its items."""

    @property
    @abstractmethod
    def _data(self) -> dict[str, Any]:
        """The items. To ask for them is to load them."""

    def __getitem__(self, key: str) -> Any:
        return self._data[key]

    def __setitem__(self, key: str, value: Any) -> None:
        self._data[key] = value

    def __delitem__(self, key: str) -> None:
        del self._data[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._data)

    def __reversed__(self) -> Iterator[str]:
        return reversed(self._data)

    def __len__(self) -> int:
        return len(self._data)

    def __contains__(self, key: object) -> bool:
        return key in self._data

    def __or__(self, other: Mapping[str, Any]) -> dict[str, Any]:
        return self._data | dict(other)

    def __ror__(self, other: Mapping[str, Any]) -> dict[str, Any]:
        return dict(other) | self._data

    def __ior__(self, other: Mapping[str, Any] | Iterable[tuple[str, Any]]) -> Self:
        self._data.update(other)
        return self

    def get(self, key: str, default: Any = None) -> Any:
        return self._data.get(key, default)

    def copy(self) -> dict[str, Any]:
        """A plain dict with the same items."""
        return self._data.copy()

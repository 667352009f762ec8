"""The indexes: created at first use, unless somebody else has."""

from __future__ import annotations

from typing import Any
from typing import NamedTuple

from pymongo.errors import OperationFailure

#: "There is one already, with other options" and "with this name, and other fields".
_CONFLICTS = (85, 86)


class Index(NamedTuple):
    keys: tuple[str, ...]
    options: dict[str, Any]

    def create(self, collection: Any) -> None:
        """Have it, or the administrator's own in its place."""
        try:
            collection.create_index([(key, 1) for key in self.keys], **self.options)
        except OperationFailure as error:
            if error.code not in _CONFLICTS:
                raise

    @property
    def command(self) -> str:
        """What creates it in MongoDB's shell."""
        keys = ", ".join(f"{key}: 1" for key in self.keys)
        options = ", ".join(f"{name}: {value}" for name, value in self.options.items())
        return f"createIndex({{{keys}}}{f', {{{options}}}' if options else ''})"


#: Has the server remove what has expired.
EXPIRES = Index(("expires",), {"expireAfterSeconds": 0})
#: The handles of a subject in their order, without a look at the documents.
SUBJECT = Index(("subject", "_id", "lifetime"), {})
INDEXES = (EXPIRES, SUBJECT)

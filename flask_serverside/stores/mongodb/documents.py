"""A session as a document, and the queries that ask for it."""

from __future__ import annotations

from datetime import datetime
from datetime import timedelta
from datetime import UTC
from typing import Any

from bson.codec_options import CodecOptions
from bson.codec_options import DatetimeConversion

from ...errors import SerializationError
from ..record import Entry
from ..record import LABEL
from ..record import Record

#: A date that Python has not, or text that is none, is no error of the whole batch.
OPTIONS: CodecOptions[dict[str, Any]] = CodecOptions(
    tz_aware=True,
    datetime_conversion=DatetimeConversion.DATETIME_AUTO,
    unicode_decode_error_handler="replace",
)

#: For lists: what is large is left where it is.
WITHOUT_REST = {"rest": 0}

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


def alive(record: Record) -> dict[str, Any]:
    return {"_id": record.handle, "expires": {"$gt": date(record.seen)}}


def asked(subject: str | None, beginning: str, after: str | None) -> dict[str, Any]:
    """The documents of a subject, or of all, with handles that begin so and come later. The
    index that it takes has all that is asked for.
    """
    handles = {"$gte": beginning, "$lt": beginning + "g"}  # they are hexadecimal
    if after is not None:
        handles["$gt"] = after
    if subject is None:
        return {"_id": handles}
    # Ids that were given up may be many for each session.
    return {"subject": subject, "_id": handles, "lifetime": {"$gt": 0}}


def ending(handles: list[str], subject: str | None) -> dict[str, Any]:
    """The sessions under these handles, but for those that have ended already."""
    found: dict[str, Any] = {"_id": {"$in": handles}, "lifetime": {"$gt": 0}}
    return found if subject is None else found | {"subject": subject}


def times(record: Record) -> dict[str, Any]:
    return {"seen": date(record.seen), "expires": date(record.expires)}


def changing(record: Record) -> dict[str, Any]:
    """All of the document that a save may change. MongoDB cannot cut a value: what a list needs
    of the payload is a field of its own.
    """
    return times(record) | {
        "version": record.version,
        "lifetime": record.lifetime,
        "deadline": None if record.deadline is None else date(record.deadline),
        "subject": record.subject,
        "size": len(record.payload),
        "head": record.payload[:LABEL],
        "rest": record.payload[LABEL:],
    }


def record_of(document: dict[str, Any]) -> Record:
    """:raises SerializationError: this is not a session as a document."""
    record = _read(document, bytes(_part(document, "head") + _part(document, "rest")))
    if len(record.payload) != document.get("size"):
        raise SerializationError(f"The record of session {record.handle} is cut off.")
    return record


def entry_of(document: dict[str, Any]) -> Entry:
    """The same of a document without its rest."""
    record = _read(document, bytes(_part(document, "head")))
    return Entry(record.checked(), _size(document))


def date(milliseconds: int) -> datetime:
    return _EPOCH + milliseconds * _MILLISECOND


def _read(document: dict[str, Any], payload: bytes) -> Record:
    try:
        deadline, handle, subject = (document[k] for k in ("deadline", "_id", "subject"))
        if not isinstance(handle, str) or not isinstance(subject, str | None):
            raise TypeError(f"_id {handle!r}, subject {type(subject).__name__}")
        return Record(
            handle,
            payload,
            _whole(document["version"]),
            _milliseconds(document["created"]),
            _milliseconds(document["seen"]),
            _milliseconds(document["expires"]),
            _whole(document["lifetime"]),
            None if deadline is None else _milliseconds(deadline),
            subject,
        )
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise _no_record(document, error) from error


def _whole(number: Any) -> int:
    """What compares as a number in the server's queries, too: text and truth do not."""
    if isinstance(number, bool | str) or int(number) != number:
        raise TypeError(f"{number!r} is not a whole number")
    return int(number)


def _part(document: dict[str, Any], name: str) -> bytes:
    try:
        return bytes(memoryview(document[name]))
    except (KeyError, TypeError) as error:
        raise _no_record(document, error) from error


def _size(document: dict[str, Any]) -> int:
    try:
        size = int(document["size"])
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise _no_record(document, error) from error
    if size < len(document["head"]):
        raise SerializationError(f"The record of session {document['_id']} is cut off.")
    return size


def _no_record(document: dict[str, Any], error: Exception) -> SerializationError:
    return SerializationError(
        f"What is stored for session {document.get('_id')} is not a record: {error!r}"
    )


def _milliseconds(moment: datetime) -> int:
    return (moment - _EPOCH) // _MILLISECOND

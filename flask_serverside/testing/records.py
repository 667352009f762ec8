"""Records to test a store with."""

from __future__ import annotations

import secrets
from typing import Any

from ..stores import Record
from ..stores import Store

#: In milliseconds.
DAY = 24 * 3600 * 1000


def new_record(
    store: Store, payload: bytes = b"data", lifetime: int = DAY, **fields: Any
) -> Record:
    """A record that could be created now, under a handle of its own."""
    now = store.now()
    record = Record(secrets.token_hex(32), payload, 1, now, now, now + lifetime, lifetime)
    return record._replace(**fields)


def saved_again(record: Record, payload: bytes, **fields: Any) -> Record:
    """The record as its next version."""
    return record._replace(payload=payload, version=record.version + 1, **fields)

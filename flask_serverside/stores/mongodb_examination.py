"""What a MongoDB server says to an operator."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
from typing import Any

import pymongo
from pymongo.errors import OperationFailure

from .examination import Examination
from .examination import REFUSED
from .examination import timed


def examine(client: Any, collection: Any) -> Examination:
    indexes = _answer(collection.index_information)
    hello, now = timed(lambda: client.admin.command("hello"))
    deployment = (
        "sharded"
        if hello.get("msg") == "isdbgrid"
        else f"replica set {hello['setName']}"
        if "setName" in hello
        else "standalone"
    )
    concern = collection.write_concern.document
    facts = {
        "deployment": deployment,
        "collection": collection.full_name,
        "write concern": str(concern) if concern else "the server's own",
    }
    build = _answer(client.server_info)
    return Examination(
        f"PyMongo {pymongo.version}",
        REFUSED if build is None else f"MongoDB {build['version']}",
        (*facts.items(), *((("indexes", REFUSED),) if indexes is None else ())),
        tuple(_warnings(indexes, deployment, concern)),
        tuple(_notes(deployment)),
        hello["localTime"].timestamp() - now,
    )


def _answer(ask: Callable[[], Any]) -> Any:
    """``None``: the server does not let us ask."""
    try:
        return ask()
    except OperationFailure:
        return None


def _warnings(
    indexes: dict[str, Any] | None, deployment: str, concern: dict[str, Any]
) -> Iterator[str]:
    # Without any there is no collection yet; it is created along with them.
    if indexes and not any("expireAfterSeconds" in index for index in indexes.values()):
        yield (
            "The collection had no TTL index: what had expired was not removed. It is created "
            "now; let the application's user create indexes."
        )
    if concern.get("w") == 1 and deployment != "standalone":
        yield (
            "With w=1 a failover loses what was stored last, and brings back what was ended. "
            "Take w=1 out of SESSION_MONGODB."
        )


def _notes(deployment: str) -> Iterator[str]:
    if deployment == "standalone":
        yield "MongoDB runs standalone: while it is down, nobody can use a session."

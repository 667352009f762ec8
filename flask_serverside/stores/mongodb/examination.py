"""What a MongoDB server says to an operator."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
from typing import Any

import pymongo
from pymongo.errors import OperationFailure

from ..examination import Examination
from ..examination import REFUSED
from ..examination import timed
from .indexes import EXPIRES
from .indexes import SUBJECT


def examine(client: Any, collection: Any, create: bool) -> Examination:
    """:param create: whether the store creates its indexes itself."""
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
        (
            *_index_warnings(indexes, collection.name, create),
            *_durability_warnings(deployment, concern),
        ),
        tuple(_notes(deployment, collection)),
        hello["localTime"].timestamp() - now,
    )


def _answer(ask: Callable[[], Any]) -> Any:
    """``None``: the server does not let us ask."""
    try:
        return ask()
    except OperationFailure:
        return None


def _index_warnings(
    indexes: dict[str, Any] | None, collection: str, create: bool
) -> Iterator[str]:
    if indexes is None or (create and not indexes):
        return  # there is no collection yet; it is created along with them
    remedy = "It is created now; let the application's user create indexes."
    keys = [[name for name, _ in index["key"]] for index in indexes.values()]
    if not any(_forgets(index) for index in indexes.values()):
        own = f"Create it: db.getCollection({collection!r}).{EXPIRES.command}."
        taken = ["expires"] in keys
        yield (
            "The collection had no TTL index: what had expired was not removed. "
            + ("Drop the index on expires. " if taken else "")
            + (remedy if create and not taken else own)
        )
    if not any(_finds(index) for index in indexes.values()):
        taken = list(SUBJECT.keys) in keys
        own = f"Create it: db.getCollection({collection!r}).{SUBJECT.command}."
        yield (
            "The collection had no index that begins with subject: to find the sessions of one "
            "user, the server read all. "
            + ("Drop the index that is partial, hidden or has a collation. " if taken else "")
            + (remedy if create and not taken else own)
        )


def _forgets(index: dict[str, Any]) -> bool:
    if "expireAfterSeconds" not in index or "partialFilterExpression" in index:
        return False
    return [name for name, _ in index["key"]] == ["expires"]


def _finds(index: dict[str, Any]) -> bool:
    """Whether the server can use it for the sessions of any subject."""
    if index.keys() & {"partialFilterExpression", "collation", "hidden"}:
        return False
    name, order = index["key"][0]
    return name == "subject" and order in (1, -1)


def _durability_warnings(deployment: str, concern: dict[str, Any]) -> Iterator[str]:
    journal = concern.get("j")
    if deployment == "standalone" and not journal:
        yield (
            "MongoDB confirms what is not in its journal yet: after a crash, what was stored "
            "last is lost, and what was ended last is back. "
            + (
                "Take journal=false out of SESSION_MONGODB."
                if journal is False
                else "Make the client with journal=True, or give its URL instead."
            )
        )
    elif journal is False:
        yield (
            "With journal=false, a power cut at several members loses what was stored last, "
            "and brings back what was ended. Take it out of SESSION_MONGODB."
        )
    # To ask for the journal and not for a number of servers is to ask for one.
    if concern and concern.get("w", 1) == 1 and deployment != "standalone":
        yield (
            "With w=1 a failover loses what was stored last, and brings back what was ended. "
            "Say w=majority instead, in the URL or where the client is made."
        )


def _notes(deployment: str, collection: Any) -> Iterator[str]:
    if deployment == "standalone":
        yield "MongoDB runs standalone: while it is down, nobody can use a session."
    if _answer(lambda: collection.find_one({}, {"_id": 1}) is None):
        yield (
            f"The collection {collection.full_name} is empty. If people are signed in, this is "
            "the wrong database, or the wrong name for the collection."
        )

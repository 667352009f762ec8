"""What is special about MongoDB."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from datetime import timedelta
from datetime import UTC
from typing import Any

import pytest
from servers import MongoDB
from servers import Server

from flask_serverside import ConfigurationError
from flask_serverside import SessionTooLarge
from flask_serverside.testing import new_record
from flask_serverside.testing import saved_again
from flask_serverside.testing import StoreContract

pytestmark = pytest.mark.group("mongo")


@pytest.fixture
def url(server: Callable[[str], Server]) -> str:
    found = server("mongodb")
    assert isinstance(found, MongoDB)
    return found.url


@pytest.fixture
def client(url: str) -> Any:
    import pymongo

    with pymongo.MongoClient(url, tz_aware=True) as client:
        yield client


class TestGivenClient(StoreContract):
    @pytest.fixture(autouse=True)
    def _client(self, client: Any) -> None:
        self.client = client

    def make_store(self, **options: Any) -> Any:
        from flask_serverside.stores.mongodb import MongoDBStore

        return MongoDBStore(self.client, "given", "client", **options)


def test_the_document_can_be_read_by_a_person(url: str, client: Any) -> None:
    from flask_serverside.stores.mongodb import MongoDBStore

    store = MongoDBStore(url)
    record = new_record(store, subject="ada")
    store.create(record)
    document = client["flask_session"]["sessions"].find_one({"_id": record.handle})
    assert document["subject"] == "ada"
    now = datetime.now(UTC)
    assert timedelta(hours=23) < document["expires"] - now < timedelta(hours=24)
    store.close()


def test_the_server_removes_what_has_expired(url: str, client: Any) -> None:
    from flask_serverside.stores.mongodb import MongoDBStore

    store = MongoDBStore(url, collection="expiring")
    store.create(new_record(store))
    indexes = client["flask_session"]["expiring"].index_information()
    assert indexes["expires_1"]["expireAfterSeconds"] == 0
    record = new_record(store, lifetime=1)
    store.create(record)
    query = {"_id": record.handle}
    deadline = datetime.now(UTC) + timedelta(seconds=20)
    while client["flask_session"]["expiring"].count_documents(query):
        assert datetime.now(UTC) < deadline
    store.close()


def test_the_urls_database_wins(url: str, client: Any) -> None:
    from flask_serverside.stores.mongodb import MongoDBStore

    store = MongoDBStore(url + "named_in_url", "named_in_config")
    record = new_record(store)
    store.create(record)
    assert client["named_in_url"]["sessions"].find_one({"_id": record.handle})
    store.close()


def test_more_than_a_document_holds_leaves_the_old_one(url: str) -> None:
    from flask_serverside.stores.mongodb import MongoDBStore

    store = MongoDBStore(url)
    record = new_record(store, b"old")
    store.create(record)
    with pytest.raises(SessionTooLarge):
        store.replace(saved_again(record, b"x" * 17_000_000))
    with pytest.raises(SessionTooLarge):
        store.create(new_record(store, b"x" * 17_000_000))
    loaded = store.load(record.handle)
    assert loaded is not None
    assert loaded.payload == b"old"
    store.close()


def test_a_client_that_does_not_wait_for_the_server_is_refused(url: str) -> None:
    import pymongo

    from flask_serverside.stores.mongodb import MongoDBStore

    with (
        pymongo.MongoClient(url, w=0) as client,
        pytest.raises(ConfigurationError, match=r"SESSION_MONGODB.*w=0"),
    ):
        MongoDBStore(client)
    with pytest.raises(ConfigurationError, match="leave the key out"):
        MongoDBStore(object())

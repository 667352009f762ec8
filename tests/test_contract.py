"""Every backend keeps the store contract: on its real server, and on its stand-in."""

from __future__ import annotations

from typing import Any

import pytest
from backends import Running

from flask_serverside.stores import Store
from flask_serverside.testing import IndexContract
from flask_serverside.testing import StoreContract


class TestContract(StoreContract):
    @pytest.fixture(autouse=True)
    def _running(self, backend: Running) -> None:
        self.running = backend

    def make_store(self, **options: Any) -> Store:
        return self.running.make_store(**options)


class TestIndexContract(IndexContract):
    @pytest.fixture(autouse=True)
    def _running(self, indexed_backend: Running) -> None:
        self.running = indexed_backend

    def make_store(self, **options: Any) -> Store:
        return self.running.make_store(**options)

"""The store contract as a test suite, for pytest.

A store for another database is proved with four lines::

    from flask_serverside.testing import StoreContract

    class TestMyStore(StoreContract):
        def make_store(self, **options):
            return MyStore("my://127.0.0.1", **options)

Run it against the real server: what stands in for one hides faults. A store that is an
:class:`~flask_serverside.stores.IndexedStore` is proved by both, ``class
TestMyStore(StoreContract, IndexContract)``.
"""

import pytest

# Or else what a failed assertion has compared would not be shown.
pytest.register_assert_rewrite(f"{__name__}.contract", f"{__name__}.index_contract")

from .clock import Clock  # noqa: E402
from .contract import StoreContract  # noqa: E402
from .index_contract import IndexContract  # noqa: E402
from .records import DAY  # noqa: E402
from .records import new_record  # noqa: E402
from .records import saved_again  # noqa: E402
from .threads import at_once  # noqa: E402

__all__ = [
    "DAY",
    "Clock",
    "IndexContract",
    "StoreContract",
    "at_once",
    "new_record",
    "saved_again",
]

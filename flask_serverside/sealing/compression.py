"""``SESSION_COMPRESSION``: larger sessions take less room in the store."""

from __future__ import annotations

import importlib
import zlib
from collections.abc import Callable
from typing import Any
from typing import NamedTuple

from ..errors import ConfigurationError
from ..errors import SerializationError
from ..errors import SessionTooLarge

KEY = "SESSION_COMPRESSION"

#: Bytes: below this there is too little to be gained.
THRESHOLD = 1024

#: Bytes that compressed data may come to. A few stored bytes must not fill the memory.
LARGEST = 64 * 2**20


#: How a payload says that it was compressed so.
CODES = {"zlib": 1, "zstd": 2}


class Compression(NamedTuple):
    """One way to compress."""

    #: One of ``CODES``.
    code: int
    compress: Callable[[bytes], bytes]
    #: Up to this many bytes; what is left over is told by the second value being false.
    decompress: Callable[[bytes, int], tuple[bytes, bool]]


def smaller(data: bytes, compression: Compression | None) -> tuple[int, bytes]:
    """The data, compressed if it is worth while, and how: 0: not at all.

    :raises SessionTooLarge: it would not be read back.
    """
    if compression is None or len(data) < THRESHOLD:
        return 0, data
    if len(data) > LARGEST:
        raise SessionTooLarge(
            f"A session of {len(data)} bytes is not compressed: {LARGEST} at most. The stored "
            "session is unchanged."
        )
    compressed = compression.compress(data)
    return (compression.code, compressed) if len(compressed) < len(data) else (0, data)


def as_before(code: int, data: bytes) -> bytes:
    """:raises SerializationError: this is not what :func:`smaller` gave."""
    if code == 0:
        return data
    for name, make in METHODS.items():
        try:
            compression = make()
        except ImportError:
            continue
        if compression.code == code:
            try:
                whole, complete = compression.decompress(data, LARGEST)
            except (zlib.error, ValueError, EOFError) as error:
                raise SerializationError(f"It is no {name} data: {error}") from error
            if not complete:
                raise SerializationError(f"Its {name} data is cut off, or too large.")
            return whole
    raise SerializationError(f"It is compressed in a way not known here: {code}.")


def _zlib() -> Compression:
    def decompress(data: bytes, most: int) -> tuple[bytes, bool]:
        worker = zlib.decompressobj()
        return worker.decompress(data, most), worker.eof and not worker.unused_data

    return Compression(CODES["zlib"], lambda data: zlib.compress(data, 6), decompress)


def _zstd() -> Compression:
    zstd = _zstd_module()

    def decompress(data: bytes, most: int) -> tuple[bytes, bool]:
        worker = zstd.ZstdDecompressor()
        try:
            whole = worker.decompress(data, most)
        except zstd.ZstdError as error:
            raise ValueError(error) from error
        return whole, worker.eof and not worker.unused_data

    return Compression(CODES["zstd"], zstd.compress, decompress)


def _zstd_module() -> Any:
    try:
        return importlib.import_module("compression.zstd")  # since Python 3.14
    except ImportError:
        return importlib.import_module("backports.zstd")


METHODS: dict[str, Callable[[], Compression]] = {"zlib": _zlib, "zstd": _zstd}


def configured(value: Any) -> Compression | None:
    """:raises ConfigurationError: not a method that this Python has."""
    if value is None:
        return None
    if not isinstance(value, str) or value not in METHODS:
        raise ConfigurationError(KEY, value, f"none, or one of {', '.join(METHODS)}")
    try:
        return METHODS[value]()
    except ImportError as error:
        raise ConfigurationError(
            KEY, value, "a method that is installed", "pip install 'flask-serverside[zstd]'."
        ) from error

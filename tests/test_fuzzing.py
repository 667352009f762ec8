"""Nothing that a client sends or a store holds makes an error, or is taken for something else.

The properties are those of ``fuzz``, of which a few thousand inputs are tried here, too.
"""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hostile_cookies
import hostile_headers
import hostile_payloads
import pytest
from fuzzed_site import AGENT
from fuzzed_site import signed
from hostile_cookies import KEYS
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
from pieces import NUMBERS
from pieces import Pieces
from test_codec import values

import flask_serverside.sealing.compression
from flask_serverside.sealing.serializers import JSON
from flask_serverside.sealing.serializers import MsgPack

pytestmark = pytest.mark.group("memory")

FUZZ = Path(__file__).parent.parent / "fuzz"
RUNS = 5000

few = settings(max_examples=150, deadline=None, derandomize=True, database=None)
sometimes = st.booleans()


@pytest.fixture(autouse=True, scope="module")
def a_bomb_is_small() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flask_serverside.sealing.compression, "LARGEST", hostile_payloads.LARGEST)
        yield


def latin(**limits: Any) -> st.SearchStrategy[str]:
    """What a server makes of the bytes in a header."""
    return st.binary(**limits).map(lambda sent: sent.decode("latin-1"))


def edits(of: bytes) -> st.SearchStrategy[bytes]:
    return st.binary(min_size=4, max_size=80).map(lambda how: Pieces(how).edit(of))


# -- cookies

cookie_sites = st.sampled_from(hostile_cookies.NAMES)
look_right = st.from_regex(r"[A-Za-z0-9_-]{22,60}\.[A-Za-z0-9_-]{43}", fullmatch=True)
cookie_paths = st.sampled_from(hostile_cookies.PATHS)


@few
@given(cookie_sites, cookie_paths, latin() | look_right)
def test_a_value_that_is_not_signed_costs_no_trip(name: str, path: str, value: str) -> None:
    hostile_cookies.check_value(name, path, value)


@few
@given(cookie_sites, cookie_paths, st.sampled_from(KEYS), st.data())
def test_an_altered_value_is_one_that_is_not_signed(
    name: str, path: str, key: str, data: st.DataObject
) -> None:
    right = signed(hostile_cookies.site(name).sid, key)
    hostile_cookies.check_value(name, path, right)
    altered = data.draw(edits(right.encode()))
    hostile_cookies.check_value(name, path, altered.decode("latin-1"))


@few
@given(
    cookie_sites,
    cookie_paths,
    st.text(st.characters(codec="ascii"))
    | st.text(st.sampled_from("ABCxyz019-_"), min_size=20, max_size=260),
    st.sampled_from(KEYS),
)
def test_an_id_that_is_signed_and_unknown_costs_one_look(
    name: str, path: str, sid: str, key: str
) -> None:
    hostile_cookies.check_id(name, path, sid, key)


# -- headers


def cookie_headers(sid: str) -> st.SearchStrategy[str]:
    values = [signed(sid, key) for key in KEYS]
    parts = ["session=", "session", "other=", ";", "; ", '"', "=", "\\", "\\056", ",", *values]
    whole = [f"session={value}" for value in values]
    one = st.sampled_from([*parts, *whole, *whole]) | latin(max_size=4)
    return st.lists(one, max_size=8).map("".join)


@few
@given(st.sampled_from(hostile_headers.NAMES), cookie_paths, st.data())
def test_headers_give_the_session_that_they_say_or_none(
    name: str, path: str, data: st.DataObject
) -> None:
    sid = hostile_headers.site(name).sid
    values = st.sampled_from([signed(sid, key) for key in KEYS])
    hostile_headers.check_headers(
        name,
        path,
        data.draw(st.none() | cookie_headers(sid)),
        data.draw(st.none() | values | latin()),
        data.draw(st.none() | st.just(AGENT) | latin()),
    )


# -- what is stored

stored_sites = st.sampled_from(hostile_payloads.NAMES)
stored_paths = st.sampled_from(hostile_payloads.PATHS)


@few
@given(stored_sites, sometimes, stored_paths, sometimes, st.data())
def test_a_damaged_record_costs_its_session_and_no_error(
    name: str, rotated: bool, path: str, heir: bool, data: st.DataObject
) -> None:
    of = hostile_payloads.site(name, rotated)
    heir = heir and rotated
    right = next(packed for key, packed in of.packed.items() if (key != of.handle) is heir)
    packed = data.draw(edits(right) | st.binary())
    hostile_payloads.check_packed(name, rotated, path, packed, heir)


@few
@given(stored_sites, stored_paths, st.data())
def test_a_damaged_payload_costs_its_session_and_no_error(
    name: str, path: str, data: st.DataObject
) -> None:
    right = hostile_payloads.site(name).record
    start = hostile_payloads.head_size(right.payload)
    payload = data.draw(
        edits(right.payload)
        | edits(right.payload[:start]).map(lambda head: head + right.payload[start:])
        | edits(right.payload[start:]).map(lambda data: right.payload[:start] + data)
        | st.binary()
    )
    hostile_payloads.check_seal(name, payload)
    hostile_payloads.check_record(name, False, path, right._replace(payload=payload))


def test_a_record_that_is_cut_off_anywhere_is_none() -> None:
    of = hostile_payloads.site("plain")
    right = of.packed[of.handle]
    for size in range(len(right)):
        hostile_payloads.check_packed("plain", False, "/read", right[:size])


def test_no_bit_of_an_encrypted_session_can_be_altered() -> None:
    of = hostile_payloads.site("encrypted")
    right = of.packed[of.handle]
    for place in range(len(right)):
        for bit in range(8):
            altered = right[:place] + bytes([right[place] ^ 1 << bit]) + right[place + 1 :]
            hostile_payloads.check_packed("encrypted", False, "/read", altered)


@few
@given(stored_sites, stored_paths, st.sampled_from([1, 2, 3, 0x80, 0x81]), st.binary())
def test_data_that_is_none_is_not_read(name: str, path: str, how: int, data: bytes) -> None:
    record = hostile_payloads.site(name).record
    payload = hostile_payloads.payload_of(record, how, data)
    hostile_payloads.check_seal(name, payload)
    hostile_payloads.check_record(name, False, path, record._replace(payload=payload))


@few
@given(stored_sites, st.sampled_from(["zlib", "zstd"]), st.integers(-2, 3))
def test_a_bomb_does_not_go_off(name: str, method: str, more: int) -> None:
    payload = hostile_payloads.bomb(name, method, hostile_payloads.LARGEST + more)
    hostile_payloads.check_seal(name, payload)


@few
@given(
    stored_sites,
    sometimes,
    stored_paths,
    st.dictionaries(st.sampled_from(hostile_payloads.KEYS) | st.text(), values, max_size=4),
)
def test_data_of_another_version_or_program_makes_no_error(
    name: str, rotated: bool, path: str, data: dict[str, Any]
) -> None:
    if name == "json":  # has fewer types
        encoded = JSON().dumps({key: repr(value) for key, value in data.items()})
    else:
        encoded = MsgPack().dumps(data)
    record = hostile_payloads.sealed(name, rotated, encoded)
    hostile_payloads.check_record_of_ours(name, rotated, path, record)


@pytest.mark.parametrize("name", hostile_payloads.NAMES)
@pytest.mark.parametrize("depth", [100, 253, 254, 330, 332, 490, 1000, 1100])
def test_data_that_is_too_deep_to_be_written_makes_no_error(name: str, depth: int) -> None:
    for path in hostile_payloads.PATHS:
        record = hostile_payloads.sealed(name, False, hostile_payloads.nested(name, depth))
        hostile_payloads.check_record_of_ours(name, False, path, record)


@few
@given(
    stored_sites,
    sometimes,
    stored_paths,
    st.dictionaries(
        st.sampled_from(hostile_payloads.FIELDS),
        st.sampled_from(NUMBERS) | st.integers(0, 2**64 - 1),
        max_size=3,
    ),
)
def test_a_record_with_impossible_numbers_makes_no_error(
    name: str, rotated: bool, path: str, fields: dict[str, Any]
) -> None:
    record = hostile_payloads.site(name, rotated).record._replace(**fields)
    hostile_payloads.check_record(name, rotated, path, record)


@few
@given(stored_sites, sometimes, stored_paths, st.data())
def test_a_damaged_tombstone_makes_no_error_and_few_trips(
    name: str, rotated: bool, path: str, data: st.DataObject
) -> None:
    of = hostile_payloads.site(name, rotated)
    leads_to = data.draw(st.sampled_from([*of.packed, "0" * 64]))
    rotation = data.draw(st.just("") | st.just("1" * 64))
    right = (leads_to + rotation).encode()
    payload = data.draw(st.just(right) | edits(right) | st.binary(max_size=130))
    ended = of.record._replace(lifetime=0, payload=payload)
    hostile_payloads.check_record(name, rotated, path, ended)


# -- guided by what is reached


@pytest.mark.parametrize("target", ["cookies", "headers", "payloads"])
def test_fuzzing_finds_nothing(target: str, tmp_path: Path) -> None:
    if importlib.util.find_spec("atheris") is None:
        reason = "atheris is not installed: there are wheels of it for Linux on x86-64"
        if sys.platform == "linux" and os.environ.get("REQUIRE_SERVERS") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    said = subprocess.run(
        [sys.executable, FUZZ, target, f"-runs={RUNS}", "-seed=1"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert said.returncode == 0, said.stderr[-5000:] + said.stdout
    inputs = re.search(rf"{target}: (\d+) inputs", said.stdout)
    assert inputs is not None
    assert int(inputs[1]) >= RUNS  # some more, if it takes them for worth it
    assert not [*tmp_path.iterdir()]

"""A store that was used before a fork is used after it, on both sides, at the same time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from backends import Running

PROGRAM = """
import json, os, sys, threading, traceback, warnings
from flask import Flask
from flask_serverside.testing import new_record, saved_again
from backends import make_store
from backends import with_client

config, given = json.loads(sys.argv[1]), sys.argv[2] == "given"
store = make_store(with_client(config) if given else config)

def work(name):
    record = new_record(store, name.encode() + b" 0")
    assert store.create(record)
    for turn in range(60):
        loaded = store.load(record.handle)
        assert loaded is not None, "lost"
        assert loaded.payload == f"{name} {turn}".encode(), (loaded.payload, name, turn)
        changed = saved_again(loaded, f"{name} {turn + 1}".encode())
        assert store.replace(changed) is changed

def both(name):
    threads = [threading.Thread(target=work, args=[f"{name}{n}"]) for n in range(2)]
    failed = []
    threading.excepthook = lambda e: failed.append(e.exc_value)
    [t.start() for t in threads]
    [t.join() for t in threads]
    if failed:
        raise failed[0]

work("before")
children = []
for number in range(3):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # threads and fork, since 3.12
        child = os.fork()
    if not child:
        status = 1
        try:
            both(f"child {number} ")
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(status)
    children.append(child)
both("parent ")
assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0, 0, 0]
"""


@pytest.mark.parametrize("client", ["made", "given"])
def test_a_store_survives_a_fork(real_backend: Running, client: str) -> None:
    if real_backend.name == "memory" and client == "given":
        return
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent)}
    arguments = [json.dumps(real_backend.app_config()), client]
    said: Any = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert said.returncode == 0, said.stderr

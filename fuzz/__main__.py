"""Feeds the package what nobody would send by mistake, guided by what of it is reached.

.. code-block:: text

    python fuzz TARGET [-runs=NUMBER] [-max_total_time=SECONDS] [FOLDER or FILE ...]

TARGET is ``cookies``, ``payloads`` or ``headers``. The rest is libFuzzer's; without any of it,
it goes on until something is found. What was found is kept in a temporary folder that is named
at the end, and is tried again with ``python fuzz TARGET FILE``.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import atheris

TARGETS = ("cookies", "payloads", "headers")


def main() -> int:
    if len(sys.argv) < 2 or sys.argv[1] not in TARGETS:
        print(__doc__, file=sys.stderr)
        return 2
    target, arguments = sys.argv[1], sys.argv[2:]
    kept = Path(tempfile.mkdtemp(prefix=f"fuzz-{target}-"))
    count = multiprocessing.Value("Q", 0, lock=False)
    started = time.monotonic()
    child = os.fork()  # libFuzzer ends the process when it has done
    if child == 0:
        fuzz(target, arguments, kept, count)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it is the child that is interrupted
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    seconds = time.monotonic() - started
    print(f"{target}: {count.value} inputs in {seconds:.0f} s, exit status {code}")
    shutil.rmtree(kept / "seeds", ignore_errors=True)
    for path in kept.iterdir():
        print(f"found: {path}")
    if code == 0:
        kept.rmdir()
    return code


def fuzz(target: str, arguments: list[str], kept: Path, count: Any) -> None:
    with atheris.instrument_imports(include=["flask_serverside"]):
        fuzzed_site = importlib.import_module("fuzzed_site")
        module = importlib.import_module(f"hostile_{target}")
    fuzzed_site.prepare()
    module.prepare()
    corpus = kept / "seeds"
    corpus.mkdir()
    for number, seed in enumerate(module.seeds()):
        (corpus / str(number)).write_bytes(seed)

    def run(data: bytes) -> None:
        count.value += 1
        fuzzed_site.RANDOM.seed(1)
        module.run(data)

    inputs = [] if any(Path(a).is_file() for a in arguments) else [str(corpus)]
    options = [f"-artifact_prefix={kept}/", "-timeout=20", *arguments, *inputs]
    atheris.Setup([sys.argv[0], *options], run)
    atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main())

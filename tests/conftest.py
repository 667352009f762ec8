from __future__ import annotations

import gc
import os
from collections.abc import Callable
from collections.abc import Generator
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from backends import Backend
from backends import BACKENDS
from backends import GROUPS
from backends import PATIENCE
from backends import run
from backends import Running
from flask import Flask
from mysql_server import MySQL
from proxy import Proxy
from servers import Server
from servers import Servers

from flask_serverside import Session

pytest.register_assert_rewrite("flask_serverside.testing")

SERVERS = pytest.StashKey[Servers]()
MISSING = pytest.StashKey[set[str]]()
USED = pytest.StashKey[set[str]]()
TURNS = pytest.StashKey[Any]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--backends",
        default=",".join(GROUPS),
        help=f"test only these, separated by commas: {', '.join(GROUPS)}",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.stash[SERVERS] = Servers()
    config.stash[SERVERS].all[MySQL.name] = MySQL()
    config.stash[MISSING] = set()
    config.stash[USED] = set()
    if unknown := chosen(config) - {*GROUPS}:
        raise pytest.UsageError(f"--backends: no such backend: {', '.join(unknown)}")


def pytest_unconfigure(config: pytest.Config) -> None:
    if SERVERS in config.stash:
        config.stash[SERVERS].stop()


def chosen(config: pytest.Config) -> set[str]:
    return set(config.getoption("--backends").split(","))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """``backend``: all of them; ``real_backend``: those with a server, or that need none;
    ``shared_backend``: of those the ones that several processes can use at once;
    ``server_backend``: only those with a server; ``indexed_backend``: those that can
    list sessions; ``sql_url``: SQL databases, as a URL."""
    kinds: dict[str, Callable[[Backend], bool]] = {
        "backend": lambda b: True,
        "real_backend": lambda b: not b.stand_in,
        "shared_backend": lambda b: not b.stand_in and b.group != "memory",
        "server_backend": lambda b: b.server is not None,
        "indexed_backend": lambda b: b.group != "memcached",
        "sql_url": lambda b: b.group == "sql",
    }
    for fixture, wanted in kinds.items():
        if fixture in metafunc.fixturenames:
            groups = chosen(metafunc.config)
            backends = [b for b in BACKENDS if b.group in groups and wanted(b)]
            ids = [b.name for b in backends]
            metafunc.parametrize(fixture, backends, ids=ids, indirect=True)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests of one backend's own file run where that backend is wanted, and those that
    need another backend than the wanted ones do not run."""
    groups = chosen(config)

    def wanted(item: pytest.Item) -> bool:
        marked = {marker.args[0] for marker in item.iter_markers("group")} <= groups
        skips = [str(marker.kwargs.get("reason")) for marker in item.iter_markers("skip")]
        return marked and not any("empty parameter set" in reason for reason in skips)

    unwanted = [item for item in items if not wanted(item)]
    if unwanted:
        config.hook.pytest_deselected(items=unwanted)
        items[:] = [item for item in items if wanted(item)]


def pytest_collection_finish(session: pytest.Session) -> None:
    """Start all servers that will be needed, together."""
    if session.config.option.collectonly:
        return
    needed = set()
    for item in session.items:
        for value in getattr(getattr(item, "callspec", None), "params", {}).values():
            if isinstance(value, Backend) and value.server:
                needed.add(value.server)
    session.config.stash[SERVERS].begin(needed)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    from workers import ByFile

    return ByFile(config, log)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, bool, bool]:
    if (turns := item.config.stash.get(TURNS, None)) is None:
        return (yield)
    with turns.taken(alone=item.get_closest_marker("alone") is not None):
        return (yield)


def pytest_sessionstart(session: pytest.Session) -> None:
    if hasattr(session.config, "workerinput"):
        from workers import Turns

        base = session.config._tmp_path_factory.getbasetemp()  # type: ignore[attr-defined]
        session.config.stash[TURNS] = Turns(base.parent)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """What a worker of pytest-xdist has used is said by the process that began it."""
    config = session.config
    if hasattr(config, "workeroutput"):
        config.workeroutput["used"] = used(config)
        config.workeroutput["missing"] = sorted(config.stash[MISSING])


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    told = getattr(node, "workeroutput", {})
    node.config.stash[USED].update(told.get("used", ()))
    node.config.stash[MISSING].update(told.get("missing", ()))


def used(config: pytest.Config) -> list[str]:
    servers = config.stash[SERVERS]
    started = (servers.all[name] for name in servers.started)
    return [f"{server.name}: {server.version} ({server.program})" for server in started]


@pytest.hookimpl(tryfirst=True)
def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    terminalreporter.section("servers")
    for line in sorted(config.stash[USED].union(used(config))):
        terminalreporter.line(line)
    for name in sorted(config.stash[MISSING]):
        terminalreporter.line(f"{name}: MISSING, only its stand-in was tested", yellow=True)


def get_server(request: pytest.FixtureRequest, name: str) -> Server:
    servers = request.config.stash[SERVERS]
    kind = servers.all[name]
    if kind.needs is not None:
        get_server(request, kind.needs)
    server = servers.get(name)
    if server is not None:
        return server
    request.config.stash[MISSING].add(name)
    reason = f"{name} is not on this machine: install it, or set {kind.variable} to its path"
    if os.environ.get("REQUIRE_SERVERS") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


def get_running(request: pytest.FixtureRequest, folder: Path) -> Running:
    backend: Backend = request.param
    return run(backend, backend.server and get_server(request, backend.server), folder)


@pytest.fixture
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Running:
    return get_running(request, tmp_path)


@pytest.fixture
def real_backend(request: pytest.FixtureRequest, tmp_path: Path) -> Running:
    return get_running(request, tmp_path)


@pytest.fixture
def shared_backend(request: pytest.FixtureRequest, tmp_path: Path) -> Running:
    return get_running(request, tmp_path)


@pytest.fixture
def indexed_backend(request: pytest.FixtureRequest, tmp_path: Path) -> Running:
    return get_running(request, tmp_path)


@pytest.fixture
def server_backend(request: pytest.FixtureRequest, tmp_path: Path) -> Running:
    return get_running(request, tmp_path)


@pytest.fixture
def sql_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    url: str = get_running(request, tmp_path).config["SESSION_SQLALCHEMY"]
    return url


@pytest.fixture
def proxied(server_backend: Running) -> Iterator[tuple[Running, Proxy]]:
    """A backend that reaches its real server through a proxy."""
    server = server_backend.server
    assert server is not None
    proxy = Proxy(server.port)
    config = {
        key: value.replace(str(server.port), str(proxy.port))
        for key, value in server_backend.config.items()
    }
    if "SESSION_MONGODB" in config:
        # The driver also looks after the server, on connections of its own.
        config["SESSION_MONGODB"] += "?heartbeatFrequencyMS=100000&serverMonitoringMode=poll"
    yield Running(server_backend.backend, config, server), proxy
    proxy.close()


@pytest.fixture
def server(request: pytest.FixtureRequest) -> Callable[[str], Server]:
    return lambda name: get_server(request, name)


@pytest.fixture
def make_app() -> Callable[..., Flask]:
    """An application with views that do what the tests need."""
    from views import add_views

    def make(running: Running | None = None, **config: Any) -> Flask:
        app = Flask("tests")
        app.config.update(SECRET_KEY="test", TESTING=True, SESSION_STORE_TIMEOUT=PATIENCE)
        app.config.update(running.app_config() if running else {}, **config)
        Session(app)
        add_views(app)
        return app

    return make


#: Collect between tests only. CPython 3.11 raises SystemError when a finalizer runs while
#: source is parsed, as pytest and hypothesis do at any time.
gc.disable()
LITTLE_GARBAGE = 200_000


def pytest_runtest_logfinish() -> None:
    if gc.get_count()[0] > LITTLE_GARBAGE:
        gc.collect()

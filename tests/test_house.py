"""Arrows point down: no module imports one above it, and no driver that is not asked for."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import flask_serverside

PACKAGE = Path(flask_serverside.__file__).parent

#: From the roof to the cellar. A module imports those below it only.
FLOORS = [
    ["__init__"],
    ["extension"],
    ["cli"],
    ["interface", "info"],
    ["session"],
    ["mapping", "saving"],
    ["config"],
    ["sealing", "web"],
    ["merge", "signals"],
    ["testing"],
    ["stores"],
    ["values"],
    ["errors"],
]
#: The same within ``saving``.
SAVING = [
    ["__init__"],
    ["unit"],
    ["react", "storing"],
    ["loading", "quota"],
    ["decide", "chain", "effects", "draft"],
    ["steps", "wanted"],
    ["state"],
    ["telling"],
    ["client", "gateway", "services", "subject", "times"],
]
#: The same within ``sealing``.
SEALING = [
    ["__init__"],
    ["codec", "envelope"],
    ["compression", "encryption", "serializers"],
]
#: The same within ``web``.
WEB = [["__init__"], ["cookies", "identity"]]
#: The same within ``testing``.
TESTING = [
    ["__init__"],
    ["index_contract"],
    ["contract"],
    ["clock", "records", "threads"],
]
#: The same within ``stores``.
STORES = [
    ["__init__"],
    ["memcached", "memory", "mongodb", "redis", "sqlalchemy"],
    ["index"],
    ["base"],
    ["operations"],
    ["record", "examination", "outage", "time_limit"],
]
#: The same within ``stores/memcached``.
MEMCACHED = [["__init__"], ["store"], ["connections", "examination"]]
#: The same within ``stores/redis``.
REDIS = [
    ["__init__"],
    ["store"],
    ["choice"],
    ["cluster", "sentinel"],
    ["line"],
    ["connections"],
    ["examination", "faults", "scripts", "urls"],
]
#: The same within ``stores/sqlalchemy``.
SQLALCHEMY = [
    ["__init__"],
    ["store"],
    ["engine"],
    ["examination", "failover", "faults", "options", "table", "timeouts"],
]
#: The same within ``stores/mongodb``.
MONGODB = [
    ["__init__"],
    ["store"],
    ["connections", "documents", "examination", "faults"],
    ["indexes"],
]
#: The same within ``cli``.
CLI = [
    ["__init__"],
    ["report", "handles"],
    ["check", "exit_codes"],
    ["configuration", "show", "stats"],
    ["terminal", "tables", "times"],
]


def imported(path: Path) -> set[str]:
    """What a module imports from this package, at run time, each as its path in there."""
    found = set()
    tree = ast.parse(path.read_text())
    for_types = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in for_types:
            continue
        if isinstance(node, ast.ImportFrom) and node.level:
            folder = path.relative_to(PACKAGE).parents[node.level - 1]
            names = [node.module] if node.module else [alias.name for alias in node.names]
            found |= {str(folder / str(name).replace(".", "/")) for name in names}
    return found


def inside(package: str, path: str) -> str | None:
    """The first name below the package in this path; ``None``: it is outside."""
    below = path.removeprefix(f"{package}/") if package else path
    return None if package and below == path else below.partition("/")[0]


def floor_of(name: str, floors: list[list[str]]) -> int:
    return next(number for number, rooms in enumerate(floors) if name in rooms)


#: Each package and its floors.
HOUSE = {
    "": FLOORS,
    "saving": SAVING,
    "sealing": SEALING,
    "web": WEB,
    "testing": TESTING,
    "stores": STORES,
    "stores/memcached": MEMCACHED,
    "stores/redis": REDIS,
    "stores/mongodb": MONGODB,
    "stores/sqlalchemy": SQLALCHEMY,
    "cli": CLI,
}


def test_every_module_has_its_floor() -> None:
    for package, floors in HOUSE.items():
        modules = {path.stem for path in (PACKAGE / package).glob("*.py")}
        modules |= {path.parent.name for path in (PACKAGE / package).glob("*/__init__.py")}
        assert modules == {room for rooms in floors for room in rooms}


def test_arrows_point_down() -> None:
    for path in PACKAGE.rglob("*.py"):
        here = str(path.relative_to(PACKAGE).with_suffix(""))
        for name in imported(path):
            # The floors of the innermost package that both are in.
            package = max((p for p in HOUSE if inside(p, here) and inside(p, name)), key=len)
            mine, its = inside(package, here), inside(package, name)
            assert mine is not None
            assert its is not None
            floors = HOUSE[package]
            assert floor_of(mine, floors) < floor_of(its, floors), f"{path} imports {name}"


def test_no_driver_is_imported_before_its_backend_is_used() -> None:
    program = """
import sys, flask, flask_serverside
app = flask.Flask("x")
flask_serverside.Session(app)
drivers = {"redis", "pymemcache", "pymongo", "bson", "sqlalchemy", "cryptography", "pytest"}
print(sorted(drivers & sys.modules.keys()))
"""
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert said.stdout == "[]\n", said.stderr


def test_pickle_is_nowhere() -> None:
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            else:
                names = [str(node.module)] if isinstance(node, ast.ImportFrom) else []
            assert not {"pickle", "marshal", "shelve", "dill"} & set(names), path

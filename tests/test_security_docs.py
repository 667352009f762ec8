"""``docs/security.md`` names tests that there are, and leaves no requirement out."""

from __future__ import annotations

import ast
import functools
import os
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from test_lifetimes import PRESETS

import flask_serverside
from flask_serverside.config import Settings

pytestmark = pytest.mark.group("memory")

TESTS = Path(__file__).parent
TEXT = (TESTS.parent / "docs" / "security.md").read_text()
TITLE = "\n| from | what is asked | key or method | test |\n"

REQUIRED = [
    *("7.1.1", "7.1.2", "7.1.3", "7.2.1", "7.2.2", "7.2.3", "7.2.4", "7.3.1", "7.3.2"),
    *("7.4.1", "7.4.2", "7.4.3", "7.4.4", "7.4.5", "7.5.1", "7.5.2", "7.5.3"),
    *("7.6.1", "7.6.2", "3.3.1", "3.3.2", "3.3.3", "3.3.4", "3.3.5"),
]


def named_in(text: str) -> list[tuple[str, str]]:
    """The tests, each as a file and a function."""
    return re.findall(r"`(\w+\.py)::(\w+)(?:\[[^`]*\])?`", text)


def rows() -> list[list[str]]:
    table = TEXT.partition(TITLE)[2].partition("\n\n")[0]
    lines = table.splitlines()[1:]
    return [[cell.strip() for cell in line.strip("|").split(" |")] for line in lines]


@functools.cache
def functions_in(file: str) -> set[str]:
    path = TESTS / file
    if file in ("contract.py", "index_contract.py"):  # which come with the package
        path = Path(flask_serverside.__file__).parent / "testing" / file
    functions = ast.walk(ast.parse(path.read_text()))
    names = {node.name for node in functions if isinstance(node, ast.FunctionDef)}
    return {name for name in names if name.startswith("test_")}


def test_every_test_that_is_named_exists() -> None:
    named = named_in(TEXT)
    assert len(named) == TEXT.count(".py::")
    assert [f"{file}::{name}" for file, name in named if name not in functions_in(file)] == []


def test_each_requirement_has_a_test_or_is_said_not_to_be_met() -> None:
    for row in rows():
        assert len(row) == 4, row
        where, asked, answer, tests = row
        assert where
        assert asked
        assert answer
        assert named_in(tests) or re.search(r"\b([Aa]pplication|[Nn]ot yet)\b", answer), row


def test_no_requirement_is_left_out() -> None:
    assert len(rows()) >= 35
    asvs = [row[0].removeprefix("ASVS ") for row in rows() if row[0].startswith("ASVS ")]
    assert sorted(asvs) == sorted(REQUIRED)
    others = [row[0] for row in rows() if not row[0].startswith("ASVS ")]
    assert len(set(others)) == len(others)


def examples(app: Flask) -> dict[str, Any]:
    """What the first two examples, which configure an application, have set."""
    names: dict[str, Any] = {"app": app, "timedelta": timedelta, "os": os}
    for example in re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)[:2]:
        exec(example, names)
    return names


@pytest.fixture(autouse=True)
def _secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_KEY", "test")
    monkeypatch.setenv("SESSION_ENCRYPTION_KEY", "A" * 43)


def test_what_to_set_in_production_is_accepted() -> None:
    app = Flask("production")
    examples(app)
    settings = Settings.from_config(app.config)
    assert settings.encryption is not None
    assert settings.rotation_interval == 900


def test_the_presets_are_those_whose_limits_are_tested() -> None:
    names = examples(Flask("presets"))
    for level, (idle, absolute) in PRESETS.items():
        assert names[level] == {
            "PERMANENT_SESSION_LIFETIME": idle or absolute,
            "SESSION_ABSOLUTE_LIFETIME": absolute,
        }

"""The README's commands are what continuous integration and the tests run."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parent.parent


def commands() -> list[str]:
    return re.findall(r"(?m)^\$ (.*)$", (ROOT / "README.md").read_text())


def test_each_command_is_one_line_and_makes_its_environment() -> None:
    shop, devices, tests = (c for c in commands() if c.startswith("python3 -m venv .venv && "))
    assert shop.endswith(".venv/bin/flask --app examples/shop run")
    assert devices.endswith(".venv/bin/flask --app examples/devices run")
    assert tests.endswith(".venv/bin/python -m pytest")


def test_continuous_integration_runs_the_readmes_test_command() -> None:
    script = (ROOT / ".ci" / "run").read_text()
    found = re.search(r"sed -n '(.*?)' README.md", script)
    assert found is not None
    said = subprocess.run(
        ["sed", "-n", found[1], "README.md"], cwd=ROOT, capture_output=True, text=True
    )
    assert said.stdout.strip() == commands()[-1]
    assert "REQUIRE_SERVERS=1" in script


def test_the_readmes_links_lead_somewhere() -> None:
    text = (ROOT / "README.md").read_text()
    for target in re.findall(r"\]\(([^)#:]+)\)|src=\"([^\"]+)\"", text):
        assert (ROOT / "".join(target)).exists(), target

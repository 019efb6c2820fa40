"""The commands people type all day load next to nothing. Asserted on modules, never on time."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest

HEAVY = (
    "asyncio",
    "email",
    "http",
    "importlib.metadata",
    "msgspec",
    "multiprocessing",
    "numpy",
    "onnx",
    "onnxruntime",
    "orjson",
    "rich",
    "ssl",
    "starlette",
    "urllib.request",
    "uvicorn",
)
SAY_MODULES = """
import sys
from towline.cli.main import main
code = main(sys.argv[1:])
sys.stdout.flush()
print("\\nMODULES", *sys.modules)
sys.exit(code)
"""


def modules_after(*words: str) -> set[str]:
    done = subprocess.run([sys.executable, "-c", SAY_MODULES, *words], capture_output=True, text=True, check=True, timeout=300)
    return set(done.stdout.rpartition("\nMODULES ")[2].split())


@pytest.mark.parametrize(
    "words",
    [
        ("--help",),
        ("--version",),
        ("ps",),
        ("env", "ls"),
        ("serve", "--help"),
        ("import", "--help"),
        ("predict", "--help"),
        ("bench", "--help"),
    ],
)
def test_a_cold_command_loads_nothing_heavy(words: tuple[str, ...]) -> None:
    assert modules_after(*words).isdisjoint(HEAVY)


@pytest.mark.parametrize("words", [("ls",), ("ls", "--json"), ("alias",), ("events",), ("rm", "digits:1", "--yes")])
def test_reading_the_store_loads_sqlite_and_nothing_heavy(words: tuple[str, ...], publish: Callable[..., object]) -> None:
    publish("digits")

    found = modules_after(*words)

    assert "sqlite3" in found
    assert found.isdisjoint(HEAVY)


def test_help_imports_no_verb() -> None:
    assert not {module for module in modules_after("--help") if module.startswith(("towline.app.", "towline.store"))}

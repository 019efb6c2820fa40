"""What `pip install towline` brings with it."""

from __future__ import annotations

from importlib.metadata import requires

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

# DESIGN: every user pays for these, on disk and in audits.
MOST_PACKAGES = 25


def needed_by(name: str, extras: frozenset[str] = frozenset()) -> set[tuple[str, frozenset[str]]]:
    """The packages, with the extras asked of them, that installing `name[extras]` on this machine installs directly."""
    found = set()
    for line in requires(name) or []:
        requirement = Requirement(line)
        if requirement.marker is None or any(requirement.marker.evaluate({"extra": extra}) for extra in extras or {""}):
            found.add((canonicalize_name(requirement.name), frozenset(requirement.extras)))
    return found


def installed_with(name: str) -> set[str]:
    """`name` and everything that comes with it, however indirectly."""
    seen: set[tuple[str, frozenset[str]]] = set()
    waiting = {(name, frozenset())}
    while waiting:
        one = waiting.pop()
        seen.add(one)
        waiting |= needed_by(*one) - seen
    return {package for package, _ in seen}


def test_the_core_installs_fewer_than_25_packages_its_own_dependencies_included():
    packages = installed_with("towline")

    assert {"towline", "numpy", "onnxruntime", "uvicorn"} <= packages
    assert len(packages) < MOST_PACKAGES, sorted(packages)


def test_the_core_installs_no_framework_and_no_second_web_framework():
    assert not installed_with("towline") & {"torch", "tensorflow", "scikit-learn", "pandas", "ray", "kubernetes", "fastapi", "pydantic"}

"""The four environments, as `towline env create` made them, run their frameworks and our package beside them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from towline.app.environments.installing import environment
from towline.app.environments.listing import look
from towline.app.environments.recipes import RECIPES
from towline.core.environments import PROBES, python_of
from towline.core.interpreter import command

pytestmark = pytest.mark.frameworks


@pytest.mark.parametrize("name", PROBES)
def test_an_environment_is_of_todays_recipe_and_holds_what_it_is_for(environments: Path, name: str) -> None:
    found = look(environments / name)

    assert found.state == "ready"
    assert found.size_bytes < 2 * RECIPES[name].disk_bytes
    packages = {package.partition(" ")[0].lower().replace("_", "-") for package in found.packages}
    for requirement in RECIPES[name].requirements:
        assert requirement.partition("=")[0].rstrip("<>") in packages


@pytest.mark.parametrize("name", PROBES)
def test_our_package_is_lent_to_an_environment_and_finds_what_it_needs(environments: Path, name: str, tmp_path: Path) -> None:
    """The converter process, up to where it asks for its channel."""
    words = command("towline.convert.foreign.host", "0", "none:none", '{"source": "", "scratch": "/nowhere"}', python=python_of(name))

    ran = subprocess.run(words, env=environment({}), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300, check=False)

    assert ran.returncode == 1
    assert "Not a socket" in ran.stderr or "non-socket" in ran.stderr, ran.stderr

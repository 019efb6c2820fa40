"""What pip says, in a few words; what it could not do, in one line."""

from __future__ import annotations

import pytest

from towline.app.environments.installing import environment, last_words, step
from towline.app.environments.recipes import RECIPES, digest
from towline.core.environments import PROBES


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("Collecting torch==2.13.0", ""),
        (
            "  Downloading torch-2.13.0-cp311-cp311-linux_x86_64.whl (180.2 MB)",
            "Downloading torch-2.13.0-cp311-cp311-linux_x86_64.whl (180.2 MB)",
        ),
        ("  Using cached numpy-2.4.6.whl (16.1 MB)", "Have numpy-2.4.6.whl (16.1 MB)"),
        ("Processing /home/ann/wheels/tiny-1.0-py3-none-any.whl (from more)", "Have tiny-1.0-py3-none-any.whl"),
        ("  Downloading https://ann:secret@index/simple/tiny-1.0.whl (3 kB)", "Downloading tiny-1.0.whl (3 kB)"),
        ("Building wheel for slow (pyproject.toml): started", "Building slow (pyproject.toml): started"),
        ("Installing collected packages: a, b, c", "Installing 3 packages"),
        ("Successfully installed a-1 b-2", ""),
        ("", ""),
    ],
)
def test_what_pip_does_is_told_without_the_folders_of_files(line: str, told: str) -> None:
    assert step(line) == told


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (
            ["Collecting x", "ERROR: first", "ERROR: No matching distribution found for x", "[notice] pip is old"],
            "No matching distribution found for x",
        ),
        (["Traceback", "OSError: [Errno 28] No space left on device", ""], "OSError: [Errno 28] No space left on device"),
        (["ERROR: HTTP error 403 while getting https://ann:secret@index/x.whl"], "HTTP error 403 while getting https://index/x.whl"),
        ([], "it said nothing"),
    ],
)
def test_why_pip_failed_is_its_last_error_without_credentials(said: list[str], why: str) -> None:
    assert last_words(said) == why


def test_pip_is_told_where_to_get_packages_and_not_where_else_to_put_them() -> None:
    given = {"PIP_INDEX_URL": "a", "PIP_TARGET": "/tmp", "PIP_USER": "1", "PYTHONPATH": "/src", "PATH": "/bin"}

    assert environment(given) == {"PIP_INDEX_URL": "a", "PATH": "/bin"}


def test_requirements_have_one_digest_in_whatever_order_and_another_when_one_changes() -> None:
    assert digest(["a", "b"]) == digest(["b", "a"]) != digest(["a", "b==2"])


def test_every_environment_that_import_asks_for_has_a_recipe_with_what_our_package_needs_there() -> None:
    assert set(PROBES) <= set(RECIPES)
    for recipe in RECIPES.values():
        assert {"numpy", "msgspec", "onnx"} <= {requirement.partition(">")[0] for requirement in recipe.requirements}

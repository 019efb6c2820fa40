"""Options and arguments that several commands share."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import click

from towline.core.errors import InvalidRequest, UsageError
from towline.core.refs import Ref, check_alias, check_model_name, parse_ref

home_option = click.option("--home", metavar="DIR", help="The store's folder. Default: $TOWLINE_HOME, else the XDG data directory.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object with a versioned schema.")
labels_option = click.option("--labels", metavar="FILE", help="One label per line, or a JSON list: the names of the output's classes.")
processing_option = click.option(
    "--processing", metavar="FILE", help="TOML that declares what is done before and after the graph: decode, resize, tokenize, top_k, …."
)
preset_option = click.option("--preset", metavar="NAME", default="", help="Processing that many models share: imagenet, segmentation.")
why_option = click.option("-m", "--why", metavar="TEXT", default="", help="The reason, for the record.")
dry_run_option = click.option("--dry-run", is_flag=True, help="Say what would change, and change nothing.")
yes_option = click.option("-y", "--yes", is_flag=True, help="Do not ask. Needed where there is no terminal.")
# Of the commands that judge a version by rows with labels.
label_option = click.option(
    "--label", default="", metavar="NAME", help="The column or array of truths, where it is not called label or target."
)
answer_option = click.option("--output", default="", metavar="NAME", help="The output that answers, where several could.")
metric_option = click.option(
    "--metric",
    default="",
    metavar="NAME|FILE.py:FUNCTION",
    help="What judges: f1, roc_auc, rmse, …, or FUNCTION(answers, truth) of your own. Default: accuracy, of values the mean error.",
)
limit_option = click.option("--limit", type=click.IntRange(1), metavar="N", help="Only the first N rows.")

MAX_KEY_BYTES = 4096
_TIME = re.compile(r"([0-9.]+)\s*(s|m|h)?")
_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600}


class RefParam(click.ParamType):  # type: ignore[type-arg]  # generic only since click 8.3
    """`name`, `name:3`, `name@alias` or `sha256:…`."""

    name = "ref"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Ref:
        if isinstance(value, Ref):
            return value
        try:
            return parse_ref(value)
        except InvalidRequest as error:
            raise _as_usage(error, "A version is written digits, digits:3, digits@champion or sha256:1b77….") from error


class TimeParam(click.ParamType):  # type: ignore[type-arg]  # generic only since click 8.3
    """`90s`, `10m` or `1h`; a bare number means seconds."""

    name = "time"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        found = _TIME.fullmatch(str(value))
        try:
            seconds = float(found[1]) * _SECONDS[found[2] or ""] if found else 0.0
        except ValueError:
            seconds = 0.0
        if not 0 < seconds <= 7 * 86_400:
            self.fail(f"'{str(value)[:32]}' is not written like 90s, 10m or 1h.", param, ctx)
        return seconds


class NameParam(click.ParamType):  # type: ignore[type-arg]  # generic only since click 8.3
    """The name of a model."""

    name = "name"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            return check_model_name(value)
        except InvalidRequest as error:
            raise _as_usage(error, "'towline ls' shows the names there are.") from error


class AliasParam(click.ParamType):  # type: ignore[type-arg]  # generic only since click 8.3
    """The name of an alias."""

    name = "alias"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            return check_alias(value)
        except InvalidRequest as error:
            raise _as_usage(error, "An alias is a word such as champion.") from error


def _as_usage(error: InvalidRequest, hint: str) -> UsageError:
    """What is wrong with a word on the command line is a matter of usage: exit code 2."""
    return UsageError(error.message, code=error.code, field=error.field, hint=hint)


def refuse_secrets(url: str, secret: str | None = None) -> None:
    """Raise UsageError when a key, or a user and password in a URL, stand on the command line."""
    if secret is not None or "@" in url.partition("://")[2].partition("/")[0]:
        raise UsageError(
            "A secret on the command line can be read by every process of this machine.",
            code="SECRET_IN_ARGUMENTS",
            hint="Put it into a file that only you can read and give --key-file, or set TOWLINE_KEY.",
        )


def read_key(key_file: str | None) -> str | None:
    """The key for a server: of `key_file`, else of TOWLINE_KEY, else none."""
    if key_file is None:
        return os.environ.get("TOWLINE_KEY") or None
    from towline.app.sources import check_file

    check_file(Path(key_file), "a file with a key")
    with open(key_file, "rb") as file:
        return file.read(MAX_KEY_BYTES).decode("utf-8", "replace").strip()

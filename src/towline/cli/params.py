"""Options and arguments that several commands share."""

from __future__ import annotations

from typing import Any

import click

from towline.core.errors import InvalidRequest, UsageError
from towline.core.refs import Ref, check_alias, check_model_name, parse_ref

home_option = click.option("--home", metavar="DIR", help="The store's folder. Default: $TOWLINE_HOME, else the XDG data directory.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object with a versioned schema.")
why_option = click.option("-m", "--why", metavar="TEXT", default="", help="The reason, for the record.")
dry_run_option = click.option("--dry-run", is_flag=True, help="Say what would change, and change nothing.")
yes_option = click.option("-y", "--yes", is_flag=True, help="Do not ask. Needed where there is no terminal.")


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

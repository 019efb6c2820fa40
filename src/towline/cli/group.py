"""The verbs of the `towline` command: find the one that is meant, run it, turn whatever happened into one exit code."""

from __future__ import annotations

import importlib
import os
import signal
import sys
from types import FrameType
from typing import Any

import click

from towline import __version__
from towline.cli import exits
from towline.cli.output import emit, say_error
from towline.core.errors import TowlineError

# Verb -> its summary. A verb's module is imported only when that verb is used.
COMMANDS = {
    "serve": "Answer requests for model files or versions.",
    "import": "Check and measure a model file, and store it as a version.",
    "migrate": "Take the place of another server: its files become versions, deployments and settings.",
    "ls": "List versions.",
    "show": "Show what is known of a version.",
    "rm": "Remove versions.",
    "alias": "Point a name such as champion at a version, or list such names.",
    "predict": "Run a version on an input.",
    "test": "Measure a version on labelled data, and judge it by gates.",
    "optimize": "Find a version that is smaller or faster here, and still right.",
    "tune": "Find how a version runs best on this machine.",
    "compare": "Run two versions on the same rows, and say what differs.",
    "bench": "Measure a version or a running server under load.",
    "export": "Write a version as an ONNX or TensorFlow Lite file.",
    "env": "Make, list or remove the environments of frameworks.",
    "key": "Make, list or revoke the keys that servers ask for.",
    "ps": "List running servers and their models.",
    "events": "List what happened to versions, and who did it.",
    "conformance": "Ask a server every clause of the protocols it speaks.",
    "doctor": "Check this machine and the store.",
    "demo": "See it all work on a small model that comes with the package.",
    "config": "Show the settings and where each comes from.",
}


_IMPORT_PAUSE_S = 0.02


class Terminated(BaseException):
    """SIGTERM arrived: unwind, so that temporary files go, then exit 143."""


class LazyGroup(click.Group):
    """Lists its commands without importing them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"towline.cli.{'import_' if cmd_name == 'import' else cmd_name}")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            raise _unknown_command(args[0])
        return super().resolve_command(ctx, args)


@click.group(
    cls=LazyGroup,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 ok, 1 failed, 2 usage, 3 a gate said no, 4 not found, 5 conflict, 6 an extra is missing, "
    "7 unreachable, 8 timeout, 130 interrupted.",
)
@click.version_option(__version__, "--version", "-V", prog_name="towline", message="%(prog)s %(version)s")
@click.pass_context
def cli(context: click.Context) -> None:
    """A trained model goes in; a measured, versioned, monitored service comes out."""
    if context.invoked_subcommand is None:
        emit(context.get_help())


def run(arguments: list[str], begun: object = None) -> int:
    """What cli/main.py promises. `begun` is for `serve`: what was started for it already."""
    for stream in (sys.stdout, sys.stderr):
        # A terminal or a locale that cannot show a character gets its escape, not a crash.
        if stream is not None and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    signal.signal(signal.SIGTERM, _on_terminate)
    signal.signal(signal.SIGINT, _on_interrupt)
    try:
        code = _run(arguments, begun)
        if sys.stdout is not None:
            sys.stdout.flush()
        return code
    except BaseException as error:
        return _report(error)


def _run(arguments: list[str], begun: object) -> int:
    # click's own main() would turn a closed pipe into exit 1 and print errors its own way.
    with cli.make_context("towline", arguments, obj=begun) as context:
        result = cli.invoke(context)
    return result if isinstance(result, int) and not isinstance(result, bool) else exits.OK


def _report(error: BaseException) -> int:
    """Say what happened, and the exit code for it."""
    if os.environ.get("TOWLINE_DEBUG", "") not in ("", "0") and not isinstance(error, (click.exceptions.Exit, SystemExit)):
        import traceback

        traceback.print_exception(error)
    match error:
        case click.exceptions.Exit():
            return error.exit_code
        case SystemExit():
            return error.code if isinstance(error.code, int) else exits.OK if error.code is None else exits.FAILED
        case KeyboardInterrupt() | click.Abort():
            say_error("Interrupted.")
            return exits.INTERRUPTED
        case Terminated():
            say_error("Terminated.")
            return exits.TERMINATED
        case BrokenPipeError():
            _forget_stdout()
            return exits.BROKEN_PIPE
        case TowlineError():
            say_error(error.message, error.hint)
            return exits.exit_code(error)
        case click.ClickException():
            say_error(error.format_message(), _usage_hint(error))
            return exits.USAGE
        case OSError():
            _forget_stdout()
            say_error(f"{error.filename or 'The system'}: {error.strerror or error}.", "Set TOWLINE_DEBUG=1 to see where.")
            return exits.FAILED
        case _:
            say_error(
                f"Towline failed in a way it should not: {type(error).__name__}: {error}",
                "This is a fault of ours. Set TOWLINE_DEBUG=1 to see where, and report it with the output of 'towline doctor'.",
            )
            return exits.FAILED


def _usage_hint(error: click.ClickException) -> str:
    context = getattr(error, "ctx", None)
    return f"See '{context.command_path} --help'." if context else "See 'towline --help'."


def _unknown_command(name: str) -> click.UsageError:
    import difflib

    near = difflib.get_close_matches(name, COMMANDS, n=1)
    guess = f" Did you mean '{near[0]}'?" if near else ""
    return click.UsageError(f"There is no command '{name[:64]}'.{guess}")


def _forget_stdout() -> None:
    """What stdout still holds cannot be written; without this Python would try again at exit and complain."""
    if sys.stdout is not None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _on_terminate(number: int, frame: FrameType | None) -> Any:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    _unwind(Terminated, frame)


def _on_interrupt(number: int, frame: FrameType | None) -> Any:
    # A second Ctrl-C must not cut the cleaning up short; a third one may.
    signal.signal(signal.SIGINT, _on_second_interrupt)
    _unwind(KeyboardInterrupt, frame)


def _on_second_interrupt(number: int, frame: FrameType | None) -> Any:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _unwind(error: type[BaseException], frame: FrameType | None) -> None:
    """Raise `error` where we were interrupted. Not inside an import, where an extension module may swallow it: a moment later then."""
    if _is_importing(frame):
        signal.signal(signal.SIGALRM, lambda number, frame: _unwind(error, frame))
        signal.setitimer(signal.ITIMER_REAL, _IMPORT_PAUSE_S)
        return
    raise error


def _is_importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_globals.get("__name__") == "importlib._bootstrap":
            return True
        frame = frame.f_back
    return False

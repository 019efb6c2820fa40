"""`towline demo`: serve a small model, measure it over real HTTP, kill its worker under load, and count what failed."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.resources import as_file, files
from pathlib import Path

from towline.app.demo.clients import Question, Tally, ask_each, ask_while, question
from towline.app.demo.digits import ASCII_INK, DRAWN, DRAWN_LABEL, INK, picture, read_digits
from towline.app.demo.server import kill_worker, served
from towline.app.options import DemoOptions
from towline.app.running import RunningServer
from towline.core.errors import TowlineError

MODEL = "digits"
CLIENTS = 8
LOAD_S = 3.0
KILLS = 3
WARM_UP_REQUESTS = 20
# The model read 199 of the 200 when it was trained; far fewer means that something between file and answer is wrong.
LEAST_RIGHT_PERCENT = 97.0


def demo_command(options: DemoOptions) -> int:
    """Run the demo, talking on stdout: 0 when everything it showed is so, 1 when not. Serves on until Ctrl-C, unless `once`."""
    data = files("towline.app") / "demo" / "data"
    with tempfile.TemporaryDirectory(prefix="towline-demo-") as folder, as_file(data / "digits.onnx") as model:
        home = options.home or Path(folder) / "home"
        say("", "  Towline demo: a model of handwritten digits becomes a service.", "")
        started_s = time.monotonic()
        try:
            with served(model, home, options.port or 0, Path(folder) / "server.log") as (process, server):
                say_line(True, "ready", f"{server.url}, {time.monotonic() - started_s:.1f} s after `towline serve digits.onnx`")
                is_good = show(server, home, (data / "digits_200.json").read_bytes())
                if options.once or not is_good:
                    return int(not is_good)
                say("", *next_steps(server.url, home))
                return serve_on(process)
        except TowlineError as error:
            say_line(False, "failed", error.message)
            say(*(f"      {line}" for line in error.hint.splitlines()))
            return 1


def show(server: RunningServer, home: Path, unseen: bytes) -> bool:
    """The show itself, line by line. True when every line is good."""
    digits = read_digits(unseen)
    questions = [question(server.url, MODEL, digit.instance(), digit.label) for digit in digits]
    drawing = question(server.url, MODEL, [DRAWN], DRAWN_LABEL)
    ask_each(server.url, questions[:WARM_UP_REQUESTS])

    answers, alone = ask_each(server.url, questions)
    results = [
        say_accuracy(alone),
        say_tally(
            "latency", f"p50 {ms(alone, 50)} ms, p99 {ms(alone, 99)} ms ({alone.asked} requests, one at a time, JSON over HTTP)", alone
        ),
    ]
    crowd = ask_while(server.url, questions, CLIENTS, lambda: time.sleep(LOAD_S))
    rate = f"{crowd.asked / crowd.elapsed_s:,.0f} requests/s ({crowd.elapsed_s:.1f} s, {CLIENTS} clients in one Python process)"
    results.append(say_tally("throughput", rate, crowd))

    # From here on the right answer is what the model said before its worker died.
    before = [Question(asked.raw, answer) for asked, answer in zip(questions, answers, strict=True)]
    storm = ask_while(server.url, before, CLIENTS, lambda: kill_under_load(server.pid, home))
    results.append(say_survival(storm))
    results.append(ask_each(server.url, [drawing])[1].right == 1)
    say("", *picture(digits, answers, INK if can_print(INK) else ASCII_INK))
    return all(results)


def kill_under_load(server_pid: int, home: Path) -> None:
    """Kill the worker KILLS times; before, between and after, it serves for a moment."""
    for _ in range(KILLS):
        time.sleep(LOAD_S / (KILLS + 1))
        kill_worker(server_pid, home, MODEL)
    time.sleep(LOAD_S / (KILLS + 1))


def serve_on(process: subprocess.Popen[bytes]) -> int:
    """Keep serving until Ctrl-C, which is how the demo is meant to end."""
    try:
        # Said inside: whoever reads it may press at once.
        say("", "  Serving until you press Ctrl-C.")
        code = process.wait()
    except KeyboardInterrupt:
        return 0
    say_line(False, "failed", f"The server ended by itself with exit code {code}.")
    return 1


def next_steps(url: str, home: Path) -> Iterator[str]:
    """What to try next; every line works as pasted."""
    yield "  Try, in another terminal (the pixels are a 7):"
    yield ""
    yield f'  curl {url}/v1/models/{MODEL}:predict -d \'{{"instances": [[['
    for number, row in enumerate(DRAWN):
        yield f"    [{','.join(str(pixel) for pixel in row)}]" + ("," if number < len(DRAWN) - 1 else "")
    yield "  ]]]}'"
    yield f"  curl {url}/metrics"
    yield f"  {shlex.quote(command_name())} ps --home {shlex.quote(str(home))}"
    yield ""
    yield f"  Then serve a model of your own:  {shlex.quote(command_name())} serve model.onnx"


def command_name() -> str:
    """How this very command is called from the shell that started it: from a checkout it is not on the PATH."""
    called = Path(sys.argv[0])
    found = shutil.which("towline")
    is_on_path = found is not None and called.exists() and Path(found).samefile(called)
    return "towline" if is_on_path or called.name != "towline" else sys.argv[0]


def say_accuracy(alone: Tally) -> bool:
    percent = 100 * alone.right / max(alone.asked, 1)
    text = f"{alone.right} of {alone.asked} digits that it has never seen are right ({percent:.1f} %)"
    return say_line(percent >= LEAST_RIGHT_PERCENT, "accuracy", text)


def say_survival(storm: Tally) -> bool:
    changed = storm.asked - storm.failed - storm.right
    text = f"worker killed {KILLS} times under load: {storm.asked:,} requests, {storm.failed} failed"
    text += f", {changed} answered differently" if changed else ""
    return say_tally("kill -9", f"{text}; slowest answer {ms(storm, 100)} ms", storm, is_good=changed == 0)


def say_tally(what: str, text: str, tally: Tally, *, is_good: bool = True) -> bool:
    """One line of the show, and the first failures when there were any."""
    is_good = is_good and tally.failed == 0 and tally.asked > 0
    say_line(is_good, what, text)
    say(*(f"      failed: {reason}" for reason in tally.reasons))
    return is_good


def say_line(is_good: bool, what: str, text: str) -> bool:
    marks = ("✓", "✗") if can_print("✓✗") else ("ok", "NO")
    say(f"  {marks[not is_good]} {what:<11} {text}")
    return is_good


def say(*lines: str) -> None:
    for line in lines:
        # Flushed, so that the show is seen as it happens also through a pipe.
        print(line, flush=True)


def ms(tally: Tally, percent: float) -> str:
    return f"{tally.percentile_s(percent) * 1e3:.2f}"


def can_print(text: str) -> bool:
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return False
    return True

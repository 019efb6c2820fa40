"""`make bench-optimize`: what each technique makes of a network for MNIST, faster and worse by how much, and what a teacher is worth."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import goals
import mnist
import optimize_report as report
import run
from contender import NotMeasured
from optimize_variants import VARIANTS, Variant, few_labels
from report import with_figures
from side_by_side import Ratio, session, speeds
from towline.core.errors import TowlineError
from towline.optimize.base import Pass
from towline.optimize.process import Work, run_pass, write_calibration
from towline.optimize.rows import UNKNOWN, write_rows

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "bench" / "results"
PAGES: dict[Path, report.Language] = {
    ROOT / "docs/explanation/optimizing.md": "en",
    ROOT / "docs/explanation/optimizing.zh-CN.md": "zh",
}
MODEL = ROOT / "bench" / "mnist_cnn.onnx"
INPUT, OUTPUT = "image", "scores"
# Rows to fit to, those held back from that, and the labels of the scenario that has few.
FITTED, HELD_BACK, LABELS = 20_000, 500, 1_000
CALIBRATED = 200
# A batch, and how often each variant is run on one, in turn with the others.
BATCH, ROUNDS = 64, 21
ASKED_AT_ONCE = 500


def main() -> int:
    """0 when no figure is beyond twice its goal, 1 when one is, 2 when something needed is missing."""
    options = parse()
    try:
        fitted, tested = mnist.load()
    except NotMeasured as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="towline-bench-") as scratch:
        try:
            measured = _Bench(Path(scratch), fitted, tested).measure(options)
        except TowlineError as error:
            print(f"bench: {error.message}", file=sys.stderr)
            return 1
    found = goals.verdicts(report.figures_of(measured), goals.OPTIMIZE_GOALS)
    text = report.as_markdown(measured, found)
    print(text)
    if options.write:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / "optimize.json").write_text(json.dumps(report.as_json(measured, found), indent=1) + "\n")
        (RESULTS / "optimize.md").write_text(text)
        for page, language in PAGES.items():
            page.write_text(with_figures(page.read_text(), report.page_table(measured, language), report.START, report.END))
    if goals.has_failed(found):
        print(f"bench: at least one figure is beyond {goals.FAILS_BEYOND:g} times its goal.", file=sys.stderr)
        return 1
    return 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    keys = [one.key for one in VARIANTS]
    parser.add_argument("--only", nargs="*", choices=keys, default=keys, help="what to make; writes nothing down unless whole")
    parser.add_argument("--seeds", type=int, default=5, help="students that are taught with few labels, and as many without a teacher")
    parser.add_argument("--write", action="store_true", help="write a partial run down as well")
    options = parser.parse_args()
    options.write |= options.only == keys and options.seeds > 1
    return options


@dataclass(frozen=True)
class _Made:
    variant: Variant
    model: Path
    seconds: float


class _Bench:
    """The network, its answers, and what is made of it, in one folder."""

    def __init__(self, folder: Path, fitted: mnist.Digits, tested: mnist.Digits) -> None:
        self._folder, self._fitted, self._tested = folder, fitted, tested
        self._say("asking the network for its answers")
        self._said = _answers(MODEL, fitted.images[: FITTED + HELD_BACK])
        batches = np.array_split(fitted.images[:CALIBRATED], CALIBRATED // 10)
        self._calibration = write_calibration([{INPUT: batch} for batch in batches], folder)
        # What begins as another did goes on from there.
        self._after: dict[tuple[Pass, ...], Path] = {}

    def measure(self, options: argparse.Namespace) -> report.Measured:
        made = [self._made(one) for one in VARIANTS if one.key in options.only]
        few = [self._few(seed) for seed in range(options.seeds)]
        self._say("timing them in turn")
        faster, milliseconds = speeds(MODEL, [one.model for one in made], {INPUT: self._tested.images[:BATCH]}, ROUNDS)
        right = self._right(MODEL)
        rows = [self._row(one, right, ratio) for one, ratio in zip(made, faster, strict=True)]
        own = (float(right.mean()), MODEL.stat().st_size, milliseconds[0], BATCH)
        return report.Measured(run.hardware(), *own, rows, few, LABELS, FITTED - LABELS)

    def _made(self, variant: Variant) -> _Made:
        """Its passes, one after another; `seconds` are those of what nobody had made before."""
        rows = self._written(f"rows-{variant.key}", self._fitted.labels[:FITTED], variant.rows)
        began_s, model = time.monotonic(), MODEL
        for place, one in enumerate(variant.passes):
            chain = variant.passes[: place + 1]
            if chain not in self._after:
                self._say(f"{variant.key}: {one.name}, {one.settings}")
                into = self._folder / f"{variant.key}-{place}"
                self._after[chain] = into / run_pass(one, Work(model, self._calibration, rows), into).model
            model = self._after[chain]
        return _Made(variant, model, time.monotonic() - began_s)

    def _few(self, seed: int) -> report.Few:
        """A student taught by the network, the same one trained on the labels alone, and what each gets right."""
        truth = self._fitted.labels[:FITTED].copy()
        truth[np.random.default_rng(seed).permutation(FITTED)[LABELS:]] = UNKNOWN
        rows = self._written(f"few-{seed}", truth, FITTED)
        shares = []
        for one in few_labels(seed):
            self._say(f"{LABELS} labels, seed {seed}: {one.settings}")
            into = self._folder / f"few-{seed}-{len(shares)}"
            shares.append(float(self._right(into / run_pass(one, Work(MODEL, rows=rows), into).model).mean()))
        return report.Few(seed, *shares)

    def _row(self, made: _Made, right: np.ndarray, faster: Ratio) -> report.Row:
        variant, its = made.variant, self._right(made.model)
        passes = [f"{one.name}, {one.settings}" for one in variant.passes]
        size = made.model.stat().st_size
        names: dict[report.Language, str] = {"en": variant.english, "zh": variant.chinese}
        return report.Row(variant.key, names, passes, faster, size, float(its.mean()), report.lost(right, its), made.seconds)

    def _right(self, model: Path) -> np.ndarray:
        """Of the digits to test with."""
        return np.asarray(_answers(model, self._tested.images).argmax(axis=1) == self._tested.labels)

    def _written(self, name: str, truth: np.ndarray, count: int) -> Path:
        """The first `count` rows, and those held back, whose labels are known."""
        places = np.r_[0:count, FITTED : FITTED + HELD_BACK]
        known = np.concatenate([truth[:count], self._fitted.labels[FITTED : FITTED + HELD_BACK]])
        batch = ({INPUT: self._fitted.images[places]}, known, {OUTPUT: self._said[places]})
        return write_rows(self._folder / name, [batch], count=len(places), output=OUTPUT, held_back=HELD_BACK)

    def _say(self, sentence: str) -> None:
        print(f"bench: {sentence}", file=sys.stderr, flush=True)


def _answers(model: Path, images: np.ndarray) -> np.ndarray:
    one = session(model)
    return np.concatenate([one.run(None, {INPUT: part})[0] for part in np.array_split(images, max(1, len(images) // ASKED_AT_ONCE))])


if __name__ == "__main__":
    sys.exit(main())

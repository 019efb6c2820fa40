"""What the training loop does with 200 digits, in the environment of PyTorch: `training_lab.py FOLDER [CASE …]` writes found.json there."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import towline.app
from towline.optimize.base import Material, PassFailed
from towline.optimize.rows import UNKNOWN, Rows, open_rows, write_rows
from towline.optimize.train import Sparse
from towline.optimize.training import checkpoint
from towline.optimize.training.augment import augmenter_for
from towline.optimize.training.batches import Batch, epoch_order, gather, rows_to_fit
from towline.optimize.training.loop import evaluate, train
from towline.optimize.training.losses import Hard, Soft, loss_for
from towline.optimize.training.settings import Training

HELD_BACK = 40
FEW = Training(epochs=4, batch=32, rate=3e-3)
CASES: list[Callable[[Path], dict[str, Any]]] = []


def case(function: Callable[[Path], dict[str, Any]]) -> Callable[[Path], dict[str, Any]]:
    CASES.append(function)
    return function


def digits(folder: Path, *, truth: str = "classes", taught: bool = False) -> Rows:
    """160 rows to fit to and 40 held back: with classes, with targets (how much ink), with classes of every tenth row only, with none."""
    found = json.loads((Path(towline.app.__file__).parent / "demo/data/digits_200.json").read_bytes())
    images = (np.array(found["images"], np.float32) / 16).reshape(-1, 1, 8, 8)
    labels = np.array(found["labels"], np.int64)
    known = {"classes": labels, "targets": images.mean(axis=(1, 2, 3)), "none": None, "few": labels.copy()}[truth]
    if truth == "few":
        known[: len(labels) - HELD_BACK][np.arange(len(labels) - HELD_BACK) % 10 != 0] = UNKNOWN
    answers = {"y": np.eye(10, dtype=np.float32)[labels] * 0.9 + 0.01} if taught else {}
    folder.mkdir(parents=True, exist_ok=True)
    return open_rows(write_rows(folder / "rows", [({"x": images}, known, answers)], count=200, output="y", held_back=HELD_BACK))


def net(outputs: int = 10) -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.1), nn.Flatten(), nn.Linear(512, outputs)]
    return nn.Sequential(*layers)


def weights(module: nn.Module) -> str:
    return hashlib.sha256(b"".join(tensor.numpy().tobytes() for tensor in module.state_dict().values())).hexdigest()


def quiet(sentence: str) -> None:
    """Nobody listens."""


def refusal(work: Callable[[], Any]) -> str:
    try:
        work()
    except PassFailed as error:
        return f"{error.message} {error.hint}"
    return ""


@case
def kinds(folder: Path) -> dict[str, Any]:
    """Every optimiser and schedule, from the same weights."""
    rows, found = digits(folder), {}
    rates = {"sgd": 0.1, "momentum": 0.02, "adagrad": 0.01, "adam": 3e-3, "adamw": 3e-3}
    for name, rate in rates.items():
        for schedule in ("constant", "step", "cosine"):
            chosen = replace(FEW, optimizer=name, rate=rate, schedule=schedule)
            found[f"{name} {schedule}"] = train(net(), rows, chosen, Hard(), keep=None, say=quiet)["loss"]
    return found


@case
def seeds(folder: Path) -> dict[str, Any]:
    rows, said = digits(folder), []
    chosen = replace(FEW, augment=("shift", "noise"))
    found = {}
    for name, seed in (("one", 1), ("again", 1), ("other", 2)):
        module = net()
        curves = train(module, rows, replace(chosen, seed=seed), Hard(), keep=None, say=said.append)
        found[name] = weights(module)
    talk: list[str] = []
    drawn: list[int] = []
    train(
        net(), rows, chosen, Hard(), keep=None, say=talk.append, checkpoint_s=0.0, after_step=lambda *_: drawn.append(torch.initial_seed())
    )
    return {
        **found,
        "curves": curves,
        "said": said[:4],
        "talk": talk,
        "drawn": len(set(drawn)),
        "evaluated": evaluate(module, rows, Hard()),
    }


@case
def kills(folder: Path) -> dict[str, Any]:
    """Killed again and again: within an epoch, at its end, and between writing a checkpoint and giving it its name."""
    rows = digits(folder)
    chosen = replace(FEW, augment=("shift",), l1=1e-4, l2=1e-4, patience=9)
    undisturbed = net()
    curves = train(undisturbed, rows, chosen, Hard(), keep=folder / "undisturbed", say=quiet)
    deaths, starts = [], []
    for at, every_s, torn in ((2, 0.0, False), (4, 1e9, False), (8, 0.0, True), (11, 0.0, False), (18, 1e9, False), (99, 0.0, False)):
        child = os.fork()
        if child == 0:
            _killed_at(rows, chosen, folder, at, every_s, torn)
        deaths.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        starts.append(json.loads((folder / "first-step").read_text()))
    return {
        "undisturbed": weights(undisturbed),
        "curves": curves,
        "killed": (folder / "weights").read_text(),
        "killed curves": json.loads((folder / "curves").read_text()),
        "deaths": deaths,
        "starts": starts,
    }


def _killed_at(rows: Rows, chosen: Training, folder: Path, at: int, every_s: float, torn: bool) -> None:
    """In a child: train on, and die at this step."""
    first: list[int] = []

    def after_step(step: int, steps: int) -> None:
        if not first:
            first.append(step)
            (folder / "first-step").write_text(json.dumps(step))
        if step == at and torn:
            checkpoint.os = type("Torn", (), {"fsync": os.fsync, "replace": lambda *_: os.kill(os.getpid(), signal.SIGKILL)})
        elif step == at:
            os.kill(os.getpid(), signal.SIGKILL)

    module = net()
    curves = train(module, rows, chosen, Hard(), keep=folder / "killed", say=quiet, after_step=after_step, checkpoint_s=every_s)
    (folder / "weights").write_text(weights(module))
    (folder / "curves").write_text(json.dumps(curves))
    os._exit(0)


@case
def checkpoints(folder: Path) -> dict[str, Any]:
    """Whether what lies in a folder is taken up: by the same training, and by others."""
    rows, keep = digits(folder), folder / "keep"
    train(net(), rows, FEW, Hard(), keep=keep, say=quiet)
    held = (keep / checkpoint.FILE).read_bytes()

    def goes_on(module: nn.Module, rows: Rows, settings: Training, loss: Any, content: bytes = held) -> bool:
        (keep / checkpoint.FILE).write_bytes(content)
        said: list[str] = []
        train(module, rows, settings, loss, keep=keep, say=said.append)
        return "goes on" in said[0]

    other = net()
    with torch.no_grad():
        next(other.parameters())[0] += 1e-3
    labels = np.array(rows.truth)
    labels[7] = (labels[7] + 1) % 10
    return {
        "same": goes_on(net(), rows, FEW, Hard()),
        "other settings": goes_on(net(), rows, replace(FEW, rate=1e-3), Hard()),
        "other loss": goes_on(net(), rows, FEW, Hard(smoothing=0.1)),
        "other weights": goes_on(other, rows, FEW, Hard()),
        "other rows": goes_on(net(), replace(rows, truth=labels), FEW, Hard()),
        "damaged": goes_on(net(), rows, FEW, Hard(), held[:-100] + bytes(100)),
        "cut": goes_on(net(), rows, FEW, Hard(), held[:1000]),
        "left": sorted(path.name for path in keep.iterdir()),
    }


@case
def early(folder: Path) -> dict[str, Any]:
    """A rate that makes the module forget what it had learnt: the best epoch's weights are there at the end."""
    rows = digits(folder)
    found = {}
    for patience in (0, 2):
        module = net()
        chosen = replace(FEW, epochs=12, optimizer="adam", rate=0.05, schedule="constant", patience=patience)
        curves = train(module, rows, chosen, Hard(), keep=None, say=quiet)
        found[str(patience)] = {"validation": curves["validation"], "at the end": evaluate(module, rows, Hard(), FEW.batch)[0]}
    return found


@case
def penalties(folder: Path) -> dict[str, Any]:
    rows, found = digits(folder), {}
    for name, chosen in (("none", FEW), ("l1", replace(FEW, l1=0.05)), ("l2", replace(FEW, l2=0.05))):
        module = net()
        train(module, rows, replace(chosen, optimizer="sgd", rate=0.1), Hard(), keep=None, say=quiet)
        matrix = module[5].weight.detach()
        found[name] = {"zeros": float((matrix == 0).float().mean()), "norm": float(matrix.norm())}
        found[name]["zeros elsewhere"] = float((module[5].bias == 0).float().mean())
    return found


@case
def unlabelled(folder: Path) -> dict[str, Any]:
    few, rows = digits(folder / "few", truth="few"), digits(folder / "all")
    logits = torch.randn(200, 10)
    batch, full = (gather(some, ("x",), np.arange(0, 160)) for some in (few, rows))
    counted = batch.truth != UNKNOWN
    only = Batch((), full.truth[counted], {})
    nan = Batch((), torch.tensor([1.0, float("nan"), 3.0]), {})
    return {
        "drawn": len(rows_to_fit(few, labelled_only=True)),
        "not drawn": len(rows_to_fit(few, labelled_only=False)),
        "loss": float(Hard(smoothing=0.1)(logits[:160], batch)),
        "of those known": float(Hard(smoothing=0.1)(logits[:160][counted], only)),
        "of none": float(Hard()(logits[:3], Batch((), torch.full((3,), UNKNOWN), {}))),
        "targets": float(Hard()(torch.tensor([[0.0], [5.0], [1.0]]), nan)),
    }


@case
def teachers(folder: Path) -> dict[str, Any]:
    """The soft loss against its formula, and a module that learns from answers alone."""
    z, t = (torch.randn(6, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) for seed in (1, 2))
    found = {}
    for heat in (1.0, 4.0):
        p, q = torch.softmax(t / heat, 1), torch.softmax(z / heat, 1)
        by_hand = float(heat**2 * (p * (p / q).log()).sum(1).mean())
        of_logits = float(Soft("y", heat)(z, Batch((), None, {"y": t})))
        of_chances = float(Soft("y", heat, probabilities=True)(z, Batch((), None, {"y": torch.softmax(t, 1)})))
        found[f"T={heat:g}"] = [by_hand, of_logits, of_chances]
        yes, said = torch.sigmoid(t / heat), torch.sigmoid(z / heat)
        each = float(-(heat**2) * (yes * said.log() + (1 - yes) * (1 - said).log()).mean())
        labels = Soft("y", heat, of="labels"), Soft("y", heat, probabilities=True, of="labels")
        of_labels = [float(one(z, Batch((), None, {"y": said}))) for one, said in zip(labels, (t, torch.sigmoid(t)), strict=True)]
        found[f"labels, T={heat:g}"] = [each, *of_labels]
    certain = Batch((), None, {"y": torch.eye(5)[:3]})
    found["of a certain teacher"] = float(Soft("y", 4.0, probabilities=True)(torch.zeros(3, 5), certain))
    rows = digits(folder / "taught", truth="none", taught=True)
    module = net()
    train(module, rows, replace(FEW, epochs=8), loss_for(rows), keep=None, say=quiet)
    labelled = digits(folder / "labelled", taught=True)
    few = digits(folder / "few", truth="few", taught=True)
    blend, logits = loss_for(few, alpha=0.3), torch.randn(160, 10)
    batch = gather(few, ("x",), np.arange(160))
    values, _ = blend.hard.per_row(logits, batch)
    return {
        **found,
        "right": evaluate(module, labelled, Hard())[1],
        "kinds": {
            "taught": repr(loss_for(rows)),
            "both": repr(loss_for(labelled, alpha=0.3)),
            "truth alone": repr(loss_for(labelled, alpha=0.0)),
            "teacher alone": repr(loss_for(labelled, alpha=1.0)),
        },
        "questions": questions(),
        "blend": [float(blend(logits, batch)), float(0.3 * blend.soft(logits, batch) + 0.7 * values.sum() / 160)],
        "neither": refusal(lambda: loss_for(digits(folder / "neither", truth="none"))),
    }


def questions() -> dict[str, list[object]]:
    """What a teacher is taken to answer."""
    chances = np.random.default_rng(0).uniform(size=(20, 3)).astype(np.float32)
    shares, logits, yes = chances / chances.sum(1, keepdims=True), 10 * chances - 5, (chances > 0.5).astype(np.int64)
    unknown = np.where(chances > 0.9, np.nan, yes).astype(np.float32)
    told: dict[str, tuple[np.ndarray, np.ndarray | None, str]] = {
        "a class": (logits, yes[:, 0], ""),
        "many labels": (chances, yes, "sigmoid"),
        "many labels as logits": (logits, yes, ""),
        "many labels as floats": (chances, unknown, "sigmoid"),
        "many labels that nobody wrote down": (chances, None, "sigmoid"),
        "shares that nobody labelled": (shares, None, "softmax"),
        "targets behind a sigmoid": (chances, chances, "sigmoid"),
        "logits that nobody labelled": (logits, None, ""),
        "one yes or no": (chances[:, :1], yes[:, 0], "sigmoid"),
    }
    losses = {name: loss_for(Rows({}, truth, {"y": said}, "y", 0), activation=how, alpha=1) for name, (said, truth, how) in told.items()}
    return {name: [one.of, one.probabilities] for name, one in losses.items() if isinstance(one, Soft)}


@case
def values(folder: Path) -> dict[str, Any]:
    """Targets, and one output for two classes."""
    rows = digits(folder / "targets", truth="targets")
    curves = train(net(1), rows, replace(FEW, epochs=8), Hard(), keep=None, say=quiet)
    binary = digits(folder / "binary")
    binary = replace(binary, truth=(np.asarray(binary.truth) > 4).astype(np.int64))
    two = train(net(1), binary, replace(FEW, epochs=8), Hard("sigmoid"), keep=None, say=quiet)
    return {"targets": curves, "two classes": two}


@case
def refused(folder: Path) -> dict[str, Any]:
    rows, none = digits(folder / "some"), digits(folder / "none")
    unknown = replace(none, truth=np.full(200, UNKNOWN))
    wild = replace(FEW, optimizer="sgd", rate=1e30)
    table = Rows({"x": np.zeros((200, 64), np.float32)}, rows.truth, {}, "y", 0)
    return {
        "rate": refusal(lambda: train(net(), replace(rows, held_back=0), wild, Hard(), keep=None, say=quiet)),
        "setting": refusal(lambda: train(net(), rows, replace(FEW, batch=0), Hard(), keep=None, say=quiet)),
        "alpha": refusal(lambda: loss_for(rows, alpha=1.5)),
        "rows": refusal(lambda: train(net(), unknown, FEW, Hard(), keep=None, say=quiet)),
        "tables": refusal(lambda: train(nn.Linear(64, 10), table, replace(FEW, augment=("flip", "crop")), Hard(), keep=None, say=quiet)),
    }


@case
def companions(folder: Path) -> dict[str, Any]:
    """A loss that learns along: its own parameters change, and come back from a checkpoint."""

    class Projected(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(3)
            self.last = nn.Linear(10, 10)

        def forward(self, logits: Tensor, batch: Batch) -> Tensor:
            return Hard()(self.last(logits), batch)

    rows, found = digits(folder), []
    for _ in range(2):
        loss = Projected()
        before = weights(loss)
        train(net(), rows, FEW, loss, keep=folder / "keep", say=quiet)
        found.append([before, weights(loss)])
    return {"weights": found}


@case
def pictures(folder: Path) -> dict[str, Any]:
    rows = digits(folder)
    images = np.asarray(rows.inputs["x"])
    coloured = np.concatenate([images, images * 0.5, images * 0.25], axis=1)
    found = {}
    for layout, array in (("NCHW", coloured), ("NHWC", np.ascontiguousarray(coloured.transpose(0, 2, 3, 1)))):
        some = Rows({"x": array}, rows.truth, {}, "y", 0)
        batch = gather(some, ("x",), np.arange(64))
        for how in ("shift", "flip", "crop", "noise", "erase"):
            change = augmenter_for((how,), ("x",), some)
            made = change(batch, torch.Generator().manual_seed(1)).inputs[0]
            again = change(batch, torch.Generator().manual_seed(1)).inputs[0]
            plain = made if layout == "NCHW" else made.permute(0, 3, 1, 2)
            found[f"{how} {layout}"] = {
                "shape": made.shape == batch.inputs[0].shape,
                "again": bool(torch.equal(made, again)),
                "changed": float((made != batch.inputs[0]).flatten(1).any(1).float().mean()),
                "channels together": float((plain[:, 0] * 0.5 - plain[:, 1]).abs().max()),
                "digest": hashlib.sha256(np.ascontiguousarray(plain.numpy()).tobytes()).hexdigest(),
            }
    return found


@case
def sparse(folder: Path) -> dict[str, Any]:
    """The demo's model with zeros, made in each way: as it says, and beside it the model."""
    demo, found = Path(towline.app.__file__).parent / "demo/data/digits.onnx", {}
    rows = digits(folder)
    images = {"image": np.asarray(rows.inputs["x"])}
    write_rows(folder / "demo", [(images, rows.truth, {})], count=200, output="scores", held_back=HELD_BACK)
    chosen = Sparse(0.8, training=Training(epochs=6, batch=20, rate=3e-3))
    kinds = {how: replace(chosen, how=how) for how in ("magnitude", "l1", "l0")}
    kinds["layers"] = replace(chosen, how="l0", scope="layer", share=0.5)
    for name, one in [*kinds.items(), ("again", kinds["l1"])]:
        said: list[str] = []
        into = folder / f"made-{name}"
        into.mkdir()
        keep = folder / f"keep-{one.how}-{one.scope}"
        passed = one.run(demo, into, Material((), folder / "demo", keep, said.append))
        found[name] = {"model": str(into / passed.model), "notes": passed.notes, "curves": passed.curves, "said": said}
    for how in ("magnitude", "l0"):
        found[f"{how} killed"] = _killed_after_an_epoch(kinds[how], demo, folder / f"killed-{how}", folder / "demo")
    return found


def _killed_after_an_epoch(chosen: Sparse, model: Path, folder: Path, rows: Path) -> dict[str, Any]:
    """Killed while zeros are still coming, then run again."""
    folder.mkdir()

    def die(sentence: str) -> None:
        if sentence.startswith("epoch 2"):
            os.kill(os.getpid(), signal.SIGKILL)

    child = os.fork()
    if child == 0:
        chosen.run(model, folder, Material((), rows, folder / "keep", die))
        os._exit(0)
    death = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    said: list[str] = []
    passed = chosen.run(model, folder, Material((), rows, folder / "keep", said.append))
    return {"model": str(folder / passed.model), "death": death, "said": said[0]}


@case
def mismatched(folder: Path) -> dict[str, Any]:
    """Truth and teachers that do not go with what the module answers."""
    rows = digits(folder)
    odd, ragged = np.array(rows.truth), np.zeros((200, 3), np.int64)
    odd[3] = 10
    wide = np.zeros((200, 4), np.float32)

    def told(module: nn.Module, **other: Any) -> str:
        return refusal(lambda: train(module, replace(rows, **other), FEW, Hard(), keep=None, say=quiet))

    return {
        "one row": told(nn.Sequential(nn.Unflatten(0, (1, -1)), nn.Flatten(), nn.Linear(128, 10))),
        "shapes": told(nn.Linear(3, 10)),
        "label": told(net(), truth=odd),
        "yes or no": told(net(1)),
        "labels a row": told(net(), truth=ragged),
        "targets": told(net(), truth=wide),
        "teacher": told(net(), answers={"y": wide}),
    }


@case
def tokens(folder: Path) -> dict[str, Any]:
    """A class for every token, whichever axis the classes are on."""
    truth = torch.randint(0, 5, (3, 7), generator=torch.Generator().manual_seed(1))
    logits = torch.randn(3, 7, 5)
    last = Hard()(logits, Batch((), truth, {}))
    second = Hard()(logits.movedim(-1, 1), Batch((), truth, {}))
    answers = np.asarray(torch.softmax(torch.randn(3, 7, 5), 2))
    rows = Rows({"x": np.zeros((3, 7), np.float32)}, None, {"y": answers}, "y", 0)
    return {"last": float(last), "second": float(second), "taught": repr(loss_for(rows))}


@case
def order(folder: Path) -> dict[str, Any]:
    first, again, next_ = (epoch_order(np.arange(103), 10, 5, epoch) for epoch in (0, 0, 1))
    return {
        "sizes": [len(part) for part in first],
        "each once": sorted(int(one) for part in first for one in part) == list(range(103)),
        "again": all(np.array_equal(a, b) for a, b in zip(first, again, strict=True)),
        "other": not all(np.array_equal(a, b) for a, b in zip(first, next_, strict=True)),
    }


def main(folder: Path, names: list[str]) -> None:
    torch.set_num_threads(1)
    found = {}
    for one in CASES:
        if not names or one.__name__ in names:
            (folder / one.__name__).mkdir()
            found[one.__name__] = one(folder / one.__name__)
    (folder / "found.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])

"""What the judges found, as HTML pages."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from towline.optimize.base import Chain
from towline.verify.pages.compared import ComparedPage, WorstRow, compared_page
from towline.verify.pages.measured import MeasuredPage, measured_page
from towline.verify.pages.optimized import Loss, OptimizedPage, Suspect, optimized_page
from towline.verify.pages.thumbnails import thumbnail
from towline.verify.pages.trials import USUAL, Trial

if TYPE_CHECKING:
    from towline.app.judging.comparison import Comparison
    from towline.app.judging.judge import Tested
    from towline.app.optimizing.optimize import Metric, Optimized
    from towline.optimize.plan import Tried
    from towline.optimize.sensitivity import Sensitivity


def page_of_test(tested: Tested, language: str = "en") -> str:
    version = tested.version
    return measured_page(
        MeasuredPage(
            name=str(version),
            facts=[("Version", str(version)), ("Digest", version.digest), ("Data", tested.data), ("Rows", f"{tested.rows:,}")],
            figures=tested.figures,
            found=tested.found,
            labels=tested.labels,
            pace=tested.pace,
            robustness=tested.robustness,
            yardstick=tested.metric.name if tested.metric is not None else "",
            is_share=tested.metric is not None and tested.metric.is_share,
            verdicts=tested.verdicts,
            notes=tested.notes,
        ),
        language,
    )


def page_of_comparison(found: Comparison, language: str = "en") -> str:
    return compared_page(_beside(found), language)


def page_of_search(found: Optimized, language: str = "en") -> str:
    facts = [("Version", str(found.version)), ("Digest", found.version.digest), ("Rows", f"{found.rows:,}"), *_judged_by(found.metric)]
    verdict = "Nothing tried was faster, or smaller and as fast, and still right."
    if found.result is not None and found.best is not None:
        verdict = f"{found.result.version}: {found.best.speedup:.2f}× · {found.best.size_ratio:.2f}×"
        facts += [("Kept", f"{found.best.tried.name}: {found.best.tried.settings}"), ("New digest", found.result.version.digest)]
    facts += [("Stopped", found.stopped)] if found.stopped else []
    kept = floats_of(found.best.tried) if found.best is not None else None
    page = OptimizedPage(
        name=str(found.version),
        facts=facts,
        tried=[_trial(one, is_kept=one is found.best and found.result is not None) for one in found.tried],
        guilty=[_suspect(one, in_float=one.operator in (kept or ())) for one in found.guilty],
        verdict=verdict,
        # Judged before it had a number.
        beside=replace(_beside(found.beside), second=str(found.result.version)) if found.beside and found.result else None,
        max_drop=found.limits.max_drop,
        notes=found.notes,
        metric=found.metric or USUAL,
    )
    return optimized_page(page, language)


def floats_of(chain: Chain) -> tuple[str, ...] | None:
    """The operators that its quantising pass left in float; None where it has none."""
    return next((one.floats for one in reversed(chain.passes) if hasattr(one, "floats")), None)


def _suspect(one: Sensitivity, *, in_float: bool) -> Suspect:
    loss = Loss(**vars(one.loss)) if one.loss is not None else None
    return Suspect(f"{one.operator} ({one.kind})", one.sqnr_db, in_float, loss)


def _trial(one: Tried, *, is_kept: bool) -> Trial:
    floats = floats_of(one.tried)
    # What it would be called with every operator quantised.
    whole = Chain(tuple(replace(each, floats=()) if hasattr(each, "floats") else each for each in one.tried.passes))  # type: ignore[type-var]
    return Trial(
        name=one.tried.name,
        settings=one.tried.settings,
        fits=one.fits,
        speedup=one.speedup,
        size_ratio=one.size_ratio,
        drop=one.drop,
        because=one.because,
        is_kept=is_kept,
        agreement=one.agreement,
        floats=None if floats is None else len(floats),
        family=f"{whole.name} {whole.settings}",
        notes=one.notes,
        curves=one.curves,
    )


def _beside(found: Comparison) -> ComparedPage:
    """Worst rows show their picture where they are pictures and Pillow is installed."""
    pictures = [thumbnail(inputs) for inputs in found.worst_inputs] or [""] * len(found.worst)
    return ComparedPage(
        first=str(found.first),
        second=str(found.second),
        facts=_facts(found),
        figures=found.figures,
        found=found.found,
        labels=found.labels,
        paces=found.paces,
        worst=[WorstRow(name, told, picture) for (name, told), picture in zip(found.worst, pictures, strict=True)],
        verdicts=found.verdicts,
        verdict=found.verdict,
        classes=found.classes,
        guilty=found.guilty,
        remedy=found.remedy,
    )


def _facts(found: Comparison) -> list[tuple[str, str]]:
    facts = [
        ("First", f"{found.first} {found.first.digest}"),
        ("Second", f"{found.second} {found.second.digest}"),
        ("Rows", f"{found.rows:,}"),
        *_judged_by(found.metric),
    ]
    facts += [] if found.agreement is None else [("Agreement", f"{100 * found.agreement:.2f} %")]
    if found.mcnemar is not None:
        facts += [
            ("Only the first is right", f"{found.mcnemar.only_first:,}"),
            ("Only the second is right", f"{found.mcnemar.only_second:,}"),
            ("McNemar's p", f"{found.mcnemar.p:.3g}"),
        ]
    if found.speedup is not None:
        facts += [("Speed, one row", f"{found.speedup:.2f}×"), ("Speed, in batches", f"{found.throughput_ratio:.2f}×")]
    return facts


def _judged_by(metric: Metric | None) -> list[tuple[str, str]]:
    """Where it is not what judges as a rule."""
    if metric is None or metric == USUAL:
        return []
    better = "↑" if metric.better == "higher" else "↓"
    return [("Judged by", f"{metric.name} {better}" + (f" {metric.source} sha256:{metric.digest}" if metric.source else ""))]

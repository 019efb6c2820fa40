"""What the judges found, as HTML pages."""

from __future__ import annotations

from typing import TYPE_CHECKING

from towline.verify.pages.compared import ComparedPage, WorstRow, compared_page
from towline.verify.pages.measured import MeasuredPage, measured_page
from towline.verify.pages.optimized import OptimizedPage, Trial, optimized_page
from towline.verify.pages.thumbnails import thumbnail

if TYPE_CHECKING:
    from towline.app.comparing import Comparison
    from towline.app.judging import Tested
    from towline.app.optimizing import Optimized


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
            yardstick="mae" if "mae" in tested.figures else "accuracy",
            verdicts=tested.verdicts,
            notes=tested.notes,
        ),
        language,
    )


def page_of_comparison(found: Comparison, language: str = "en") -> str:
    """Worst rows show their picture where they are pictures and Pillow is installed."""
    pictures = [thumbnail(inputs) for inputs in found.worst_inputs] or [""] * len(found.worst)
    return compared_page(
        ComparedPage(
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
        ),
        language,
    )


def page_of_search(found: Optimized, language: str = "en") -> str:
    tried = [Trial(one.tried.name, one.tried.settings, one.fits, one.speedup, one.size_ratio, one.drop, one.because) for one in found.tried]
    facts = [("Version", str(found.version)), ("Digest", found.version.digest), ("Rows", f"{found.rows:,}")]
    verdict = "Nothing tried was faster, or smaller and as fast, and still right."
    if found.result is not None and found.best is not None:
        verdict = f"{found.result.version}: {found.best.speedup:.2f}× · {found.best.size_ratio:.2f}×"
        facts += [("Kept", f"{found.best.tried.name} {found.best.tried.settings}"), ("New digest", found.result.version.digest)]
    guilty = [(f"{one.operator} ({one.kind})", one.sqnr_db) for one in found.guilty]
    return optimized_page(OptimizedPage(str(found.version), facts, tried, guilty, verdict), language)


def _facts(found: Comparison) -> list[tuple[str, str]]:
    facts = [
        ("First", f"{found.first} {found.first.digest}"),
        ("Second", f"{found.second} {found.second.digest}"),
        ("Rows", f"{found.rows:,}"),
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

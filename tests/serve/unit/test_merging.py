"""Merge only where a batch costs less than its rows."""

from __future__ import annotations

import pytest

from towline.core.warmup import WarmReport
from towline.serve.lanes import merging_pays


@pytest.mark.parametrize(
    ("one_row_us", "eight_rows_us", "pays"),
    [
        (13.0, 14.1, True),  # a tiny network: eight rows for the price of one
        (11_000.0, 90_000.0, False),  # MobileNetV2 on a CPU: nothing to gain, and the first would wait for the eighth
        (11_000.0, 70_400.0, True),
        (11_000.0, 70_500.0, False),
        (11_000.0, -1.0, True),  # not measured
        (-1.0, -1.0, True),
    ],
)
def test_rows_are_merged_where_that_was_measured_to_pay(one_row_us: float, eight_rows_us: float, pays: bool) -> None:
    assert merging_pays(WarmReport(True, "", one_row_us, eight_rows_us)) is pays

"""Load what scikit-learn, joblib or LightGBM left behind. Runs in the converter process only."""

from __future__ import annotations

from towline.convert.base import Source, Task
from towline.convert.tabular.load import read_model
from towline.convert.tabular.source import TabularSource
from towline.core.errors import ImportRefused

OPTIONS = {"input"}


class TabularImporter:
    name = "tabular"
    environment = "tabular"

    def load(self, task: Task) -> Source:
        """Raises ImportRefused for what is damaged, needs classes that no package here has, or holds no fitted model."""
        unknown = sorted(set(task.options) - OPTIONS)
        if unknown:
            raise ImportRefused(
                f"A scikit-learn or LightGBM model is imported without '{unknown[0]}'.",
                code="UNKNOWN_OPTION",
                field=unknown[0],
                hint="The option that it knows is input.",
            )
        model, notes = read_model(task.source)
        return TabularSource(model, declared=task.options.get("input", ""), notes=notes)

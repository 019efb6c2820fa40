"""The importer of TensorFlow and Keras: one kind of source after another, each opened by its own module."""

from __future__ import annotations

from collections.abc import Callable

from towline.convert.base import Source, Task
from towline.convert.tensorflow.silence import quiet_tensorflow
from towline.core.errors import ImportRefused

# What may be said with each kind. `input` is learned from the source itself unless its code does not tell; a sample says no more than that.
_OPTIONS = {
    "saved_model": {"tags", "input"},
    "frozen_graph": {"inputs", "outputs", "input"},
    "tf1_checkpoint": {"inputs", "outputs", "input"},
    "tf2_checkpoint": {"arch", "input"},
    "keras": {"input", "arch"},
    "keras_h5": {"input", "arch"},
}


class TensorFlowImporter:
    name = "tensorflow"
    environment = "tensorflow"

    def __init__(self) -> None:
        """Import all that reading and converting use: what is done from `load` on is laid to the source."""
        quiet_tensorflow()
        from towline.convert.tensorflow.architecture import open_with_code
        from towline.convert.tensorflow.graph import open_graph
        from towline.convert.tensorflow.keras import open_keras
        from towline.convert.tensorflow.saved_model import open_saved_model
        from towline.convert.tensorflow.session_checkpoint import open_session_checkpoint

        self._with_code = open_with_code
        self._openers: dict[str, Callable[[Task], Source]] = {
            "saved_model": open_saved_model,
            "frozen_graph": open_graph,
            "tf1_checkpoint": open_session_checkpoint,
            "tf2_checkpoint": open_with_code,
            "keras": open_keras,
            "keras_h5": open_keras,
        }

    def load(self, task: Task) -> Source:
        """Raises ImportRefused."""
        known = _OPTIONS.get(task.kind)
        if known is None:
            raise ImportRefused(f"The importer of TensorFlow does not read a '{task.kind}'.", code="UNKNOWN_KIND")
        unknown = sorted(task.options.keys() - known)
        if unknown:
            raise ImportRefused(
                f"A source of kind '{task.kind}' takes no option '{unknown[0]}'.",
                code="UNKNOWN_OPTION",
                field=unknown[0],
                hint=f"It takes: {', '.join(sorted(known))}.",
            )
        opener = self._with_code if "arch" in task.options else self._openers[task.kind]
        return opener(task)

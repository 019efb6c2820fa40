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
    "keras": {"trust", "input", "arch"},
    "keras_h5": {"trust", "input", "arch"},
}


class TensorFlowImporter:
    name = "tensorflow"
    environment = "tensorflow"

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
        quiet_tensorflow()
        return _opener(task)(task)


def _opener(task: Task) -> Callable[[Task], Source]:
    """Late, and only what is needed: each import costs, that of Keras most."""
    if task.kind == "saved_model":
        from towline.convert.tensorflow.saved_model import open_saved_model

        return open_saved_model
    if task.kind == "frozen_graph":
        from towline.convert.tensorflow.graph import open_graph

        return open_graph
    if task.kind == "tf1_checkpoint" and "arch" not in task.options:
        from towline.convert.tensorflow.session_checkpoint import open_session_checkpoint

        return open_session_checkpoint
    if "arch" in task.options or task.kind == "tf2_checkpoint":
        from towline.convert.tensorflow.architecture import open_with_code

        return open_with_code
    from towline.convert.tensorflow.keras import open_keras

    return open_keras

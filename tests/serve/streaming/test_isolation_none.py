"""Without isolation a handler is not served: its code would run in the process that holds the socket."""

from __future__ import annotations

from pathlib import Path

from towline.app.importing.model import import_model
from towline.testing.server import RunningServer


def test_a_handler_is_refused_by_name_where_models_run_in_the_front(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("class Mine:\n    def predict(self, x):\n        return x\n")
    import_model(f"{tmp_path / 'mine.py'}:Mine", home=tmp_path / "home")

    with RunningServer("Mine", home=tmp_path / "home", flags=("--isolation", "none"), await_ready=False) as server:
        server.wait_until(lambda: "process of its own" in server.log())

        assert server.post("/models/Mine/predict", b"1")[0] == 503

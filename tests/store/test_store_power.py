"""After a power cut that loses everything not synced, what was acknowledged is there, and nothing is half there."""

from __future__ import annotations

from pathlib import Path

import pytest
from changes import CHANGES, prepare
from dying import ForgetfulDisk
from store_making import HandClock, add, complaints, fast_folder, state

from towline.store.disk import Disk
from towline.store.sqlite import open_store


def found_after(home: Path) -> dict[str, object]:
    with open_store(home, clock=HandClock()) as store:
        assert complaints(store) == []
        return state(store)


@pytest.mark.parametrize("change", ["import", "import of content another name has", "removal", "alias moved", "event"])
def test_what_was_acknowledged_survives_a_power_cut_at_any_moment(change: str) -> None:
    disk = ForgetfulDisk()
    with fast_folder() as made:
        root = Path(made) / "disk"
        root.mkdir()
        home = root / "home"
        images: list[Path] = []

        def cut() -> None:
            images.append(Path(made) / f"image-{len(images)}")
            disk.after_power_cut(root, images[-1])

        prepare(change, home, disk)
        with open_store(home, clock=HandClock(), disk=disk) as store:
            old = state(store)
            disk.before_effect = cut
            CHANGES[change](store)
            disk.before_effect = lambda: None
            cut()
            new = state(store)
        disk.release()

        assert old != new
        for image in images[:-1]:
            assert found_after(image / "home") in (old, new), image.name
        assert found_after(images[-1] / "home") == new


def test_the_forgetful_disk_forgets() -> None:
    """Bites: without its syncs the same store loses what it acknowledged."""

    class Careless(ForgetfulDisk):
        def sync_folder(self, path: Path) -> None:
            if path.name != "versions":
                super().sync_folder(path)

    disk = Careless()
    with fast_folder() as made:
        root = Path(made) / "disk"
        root.mkdir()
        with open_store(root / "home", disk=disk) as store:
            add(store, "a", 1)
            disk.after_power_cut(root, Path(made) / "image")
        disk.release()
        with open_store(Path(made) / "image" / "home", disk=Disk()) as store:
            assert any("The files of a:1 are gone" in complaint for complaint in complaints(store))

"""Run by the environment 'torch': `python torchserve_answers.py SITE FOLDER` has TorchServe's own handlers, of its package in SITE, answer
FOLDER/picture.png for each archive of FOLDER/store, into FOLDER/answers.json."""

import json
import logging
import sys
import types
import zipfile
from importlib import import_module
from pathlib import Path

from towline.convert.torch.making import torchvision_models

HANDLERS = {"image_classifier": "ImageClassifier", "image_segmenter": "ImageSegmenter"}


def answer(archive: Path, picture: bytes) -> object:
    """What the handler that the archive names gives for one request."""
    # Not in the store: an unpacked archive is one, too.
    folder = archive.parents[1] / "unpacked" / archive.stem
    with zipfile.ZipFile(archive) as packed:
        packed.extractall(folder)
    manifest = json.loads((folder / "MAR-INF" / "MANIFEST.json").read_text())
    handler = getattr(import_module(f"ts.torch_handler.{manifest['model']['handler']}"), HANDLERS[manifest["model"]["handler"]])()
    from ts.context import Context, RequestProcessor

    # As its worker does; another archive's code is of the same name.
    sys.path.insert(0, str(folder))
    sys.modules.pop(Path(manifest["model"]["modelFile"]).stem, None)
    metrics = types.SimpleNamespace(add_time=lambda *words: None)
    names = folder / "index_to_name.json"
    context = Context(archive.stem, str(folder), manifest, 1, None, "0.12.0", metrics=metrics, model_yaml_config={})
    context.request_processor = [RequestProcessor({})]
    handler.initialize(context)
    assert (handler.mapping is not None) == names.exists()
    (found,) = handler.handle([{"body": bytearray(picture)}], context)
    sys.path.remove(str(folder))
    return found


def main(site: str, folder: Path) -> None:
    logging.disable()
    # Last, so that of the frameworks' packages there only TorchServe's is found.
    sys.path.append(site)
    # What explains answers, and nothing else: nobody asks for that here.
    captum = types.ModuleType("captum.attr")
    captum.IntegratedGradients = lambda model: None  # type: ignore[attr-defined]
    sys.modules |= {"captum": types.ModuleType("captum"), "captum.attr": captum}
    # Transforms need none of the compiled operators that may not fit this PyTorch.
    torchvision_models()
    picture = (folder / "picture.png").read_bytes()
    answers = {archive.stem: answer(archive, picture) for archive in sorted((folder / "store").glob("*.mar"))}
    (folder / "answers.json").write_text(json.dumps(answers))


main(sys.argv[1], Path(sys.argv[2]))

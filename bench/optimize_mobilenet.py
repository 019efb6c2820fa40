"""Agreement against speed of MobileNetV2 in static int8, for ever more operators in float: `optimize_mobilenet.py FOLDER [CROPS]`.

FOLDER is what `tests/frameworks/export_models.py mobilenet FOLDER` wrote in the environment of make test-frameworks: the network with its
ImageNet weights, and pictures. A fifth of the crops calibrate, the others judge, in one run beside the version in float.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "frameworks"))

from crops import crops

import towline
from towline.app.optimizing.optimize import Limits, optimize
from towline.optimize.base import Chain
from towline.optimize.equalise import Equalise
from towline.optimize.quantize import Int8
from towline.optimize.rounding import Round
from towline.optimize.sensitivity import sensitivities

STEPS = (1, 2, 4, 8, 12, 16, 24, 32)


def main(folder: Path, count: int) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        home, data = Path(scratch, "home"), Path(scratch, "crops.npz")
        pictures = crops(folder / "pictures", count)
        np.savez(data, image_tensor=pictures)
        towline.import_model(folder / "model.onnx", name="net", home=home)
        plain = [Int8(), Int8(calibration="percentile"), Int8(calibration="entropy"), Int8(reduce_range=True), Int8(weights="u8")]
        plain += [Int8(activations="s8"), Int8(per_channel=False)]
        chains = [Chain((one,)) for one in plain]
        chains += [Chain((Equalise(), Int8())), Chain((Round(), Int8())), Chain((Equalise(), Round(), Int8()))]
        chains += [Chain((Equalise(), Round(learned=False), Int8())), Chain((Equalise(), Round(bits=7), Int8(reduce_range=True)))]
        chains += _mixed(folder / "model.onnx", pictures[: count // 5], Path(scratch))
        found = optimize("net", data, passes=chains, limits=Limits(min_agreement=0.95), budget_s=7200, home=home)
        print(f"{found.rows} crops judge\n\n| Pass | Settings | Agreement | Speed | Size |\n|---|---|---|---|---|")
        for one in found.tried:
            told = (f"{one.agreement or 0:.3f}", f"{one.speedup:.2f}", f"{one.size_ratio:.2f}")
            print("|", " | ".join((one.tried.name, one.tried.settings, *told)), "|")


def _mixed(model: Path, calibration: np.ndarray, scratch: Path) -> list[Chain]:
    """Equalised, rounded and quantised but for the operators that gain most in float for what they cost."""
    from towline.optimize.base import Material

    batches = [{"image_tensor": calibration[start : start + 8]} for start in range(0, len(calibration), 8)]
    for one in (Equalise(), Round()):
        into = scratch / one.name
        into.mkdir()
        model = into / one.run(model, into, Material(batches)).model
    (scratch / "alone").mkdir()
    guilty = sorted(sensitivities(model, scratch / "alone", batches, Int8()), key=lambda one: -one.noise_per_cost)
    floats = tuple(one.operator for one in guilty)
    return [Chain((Equalise(), Round(), Int8(floats=floats[:count]))) for count in STEPS]


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 400)

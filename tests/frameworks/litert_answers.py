"""Run in the litert environment: `litert_answers.py FOLDER` runs FILE.tflite on the arrays of FILE.npz, and writes FILE.out.npz.

LiteRT alone, without a line of ours: what our answers are compared with.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter

for asked in Path(sys.argv[1]).glob("*.npz"):
    inputs = dict(np.load(asked).items())
    lite = Interpreter(model_path=str(asked.with_suffix(".tflite")))
    for details in lite.get_input_details():
        lite.resize_tensor_input(details["index"], next(iter(inputs.values())).shape)
    lite.allocate_tensors()
    lite.set_tensor(lite.get_input_details()[0]["index"], next(iter(inputs.values())))
    lite.invoke()
    np.savez(asked.with_suffix(".out.npz"), *[lite.get_tensor(details["index"]) for details in lite.get_output_details()])

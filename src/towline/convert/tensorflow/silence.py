"""Import TensorFlow without its chatter, with the settings under which sources are answered and converted."""

from __future__ import annotations

import logging
import os
import warnings
from typing import Any

_SETTINGS = {
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "KERAS_BACKEND": "tensorflow",
    # Measured on a spectrogram network, whose logarithm makes rounding visible: with oneDNN the answers are within 1e-6 of ONNX Runtime's
    # and the same for any number of threads, with Eigen 8e-4 apart and not the same.
    "TF_ENABLE_ONEDNN_OPTS": "1",
    # The one device that every machine has: what is proven there is proven.
    "CUDA_VISIBLE_DEVICES": "",
}


def quiet_tensorflow() -> Any:
    """The module `tensorflow`. Its import takes 2-10 s; it must come before that of Keras."""
    os.environ.update(_SETTINGS)
    warnings.simplefilter("ignore")
    import tensorflow as tf

    for name in ("tensorflow", "tf2onnx", "absl", "onnxslim"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    # One thread, as a worker's run has: sums are taken in one order, on whatever number of cores.
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    return tf

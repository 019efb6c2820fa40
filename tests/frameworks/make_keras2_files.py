"""How the files in tests/frameworks/keras2 were made, by Keras 2 and the Model Optimization Toolkit, which are in no environment of ours:
pip install tensorflow-cpu==2.21.0 tf_keras==2.21.0 tensorflow-model-optimization==0.8.1, then run this with a folder."""

import os
import sys
from pathlib import Path

os.environ["TF_USE_LEGACY_KERAS"] = "1"

import numpy as np
import tensorflow_model_optimization as tfmot
import tf_keras as keras


def net() -> keras.Model:
    image = keras.Input((4, 4, 1), name="image")
    x = keras.layers.Conv2D(2, 3, use_bias=False, name="conv")(image)
    x = keras.layers.BatchNormalization(name="bn")(x)
    x = keras.layers.Flatten(name="flat")(keras.layers.ReLU(name="relu")(x))
    return keras.Model(image, keras.layers.Dense(3, activation="softmax", name="probs")(x))


def trained(model: keras.Model, images: np.ndarray) -> keras.Model:
    model.compile("adam", "sparse_categorical_crossentropy")
    steps = [tfmot.sparsity.keras.UpdatePruningStep()] if "prune" in model.layers[1].name else []
    model.fit(images, np.arange(len(images)) % 3, epochs=2, verbose=0, callbacks=steps)
    return model


def main(folder: Path) -> None:
    keras.utils.set_random_seed(7)
    images = np.random.default_rng(7).random((32, 4, 4, 1), np.float32)
    schedule = tfmot.sparsity.keras.ConstantSparsity(0.5, 0)
    models = {
        "pruned": trained(tfmot.sparsity.keras.prune_low_magnitude(net(), pruning_schedule=schedule), images),
        "quantised": trained(tfmot.quantization.keras.quantize_model(net()), images),
        "plain": trained(net(), images),
    }
    for name, model in models.items():
        model.save(folder / f"{name}.h5", include_optimizer=False)
    models["plain"].compile()
    models["plain"].save(folder / "plain.keras")
    models["plain"].save_weights(folder / "checkpoint" / "model.ckpt")
    (folder / "checkpoint" / "checkpoint").unlink()
    np.savez(folder / "answers.npz", images=images[:3], **{name: model.predict(images[:3], verbose=0) for name, model in models.items()})


if __name__ == "__main__":
    main(Path(sys.argv[1]))

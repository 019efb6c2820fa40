"""Run by a Python that has a framework and our package: `live_models.py KIND HOME` makes a model, imports the object itself, and tells what
both answer. KIND is torch, keras, sklearn, lightgbm or refused.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

import towline


def of_torch(home: str) -> dict[str, Any]:
    import torch
    from torch import nn

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 3))
    model(torch.randn(16, 4))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    rows = torch.randn(5, 4)

    result = towline.import_model(model, name="live", sample=rows, home=home)

    same = all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    as_it_was = model.training and same and all(one.requires_grad for one in model.parameters())
    model.eval()
    with torch.no_grad():
        expected = model(rows).numpy()
    return told(result, home, rows.numpy(), expected, as_it_was)


def of_keras(home: str) -> dict[str, Any]:
    import keras

    model = keras.Sequential([keras.Input((4,), name="row"), keras.layers.Dense(8, activation="relu"), keras.layers.Dense(3)])
    rows = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    result = towline.import_model(model, name="live", home=home)
    return told(result, home, rows, model.predict(rows, verbose=0), True)


def of_sklearn(home: str) -> dict[str, Any]:
    import pandas
    from sklearn.compose import make_column_transformer
    from sklearn.linear_model import LinearRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    rng = np.random.default_rng(0)
    people = pandas.DataFrame({"age": rng.normal(40, 9, 50), "city": rng.choice(["Köln", "Wien"], 50), "unused": rng.normal(size=50)})
    columns = make_column_transformer((StandardScaler(), ["age"]), (OneHotEncoder(), ["city"]))
    model = make_pipeline(columns, LinearRegression()).fit(people, people["age"] * 2)
    result = towline.import_model(model, name="live", sample=people[:8], home=home)
    asked = {"age": people[["age"]][:5].to_numpy(np.float32), "city": people[["city"]][:5].to_numpy(object)}
    return told(result, home, asked, model.predict(people[:5]), not hasattr(model, "towline"))


def of_lightgbm(home: str) -> dict[str, Any]:
    import lightgbm

    rows = np.random.default_rng(0).normal(size=(200, 4))
    booster = lightgbm.train({"objective": "regression", "verbose": -1}, lightgbm.Dataset(rows, rows[:, 0]), 5)
    result = towline.import_model(booster, name="live", home=home)
    return told(result, home, rows[:5].astype(np.float32), booster.predict(rows[:5].astype(np.float32)), True)


def told(result: Any, home: str, asked: Any, expected: Any, as_it_was: bool) -> dict[str, Any]:
    answers = towline.load("live", home=home).predict(asked)
    got = next(iter(answers.values())) if isinstance(answers, dict) else answers
    return {
        "version": str(result.version),
        "format": result.version.manifest.origin.format,
        "inputs": [[spec.name, spec.dtype, list(spec.shape or ())] for spec in result.version.manifest.signature.inputs],
        "golden": len(result.version.manifest.golden),
        "proven_on": len(result.version.manifest.source_answers),
        "difference": float(np.abs(np.asarray(got) - np.asarray(expected)).max()),
        "as_it_was": as_it_was,
    }


def refused(home: str) -> dict[str, Any]:
    from sklearn.base import BaseEstimator
    from sklearn.linear_model import LinearRegression

    class Own(BaseEstimator):
        def predict(self, X: Any) -> Any:
            return X

    codes = {}
    for name, model in {"dict": {}, "own": Own(), "unfitted": LinearRegression()}.items():
        try:
            towline.import_model(model, home=home)
        except towline.TowlineError as error:
            codes[name] = error.code
    return codes


KINDS: dict[str, Callable[[str], dict[str, Any]]] = {
    "torch": of_torch,
    "keras": of_keras,
    "sklearn": of_sklearn,
    "lightgbm": of_lightgbm,
    "refused": refused,
}

if __name__ == "__main__":
    print(json.dumps(KINDS[sys.argv[1]](sys.argv[2])))

"""Run by the environment that has scikit-learn and LightGBM, with our package: `tabular_kinds.py FOLDER` converts a model of each kind by
each route, and writes inputs and what the framework answers beside it.
"""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import pandas
from sklearn.calibration import CalibratedClassifierCV
from sklearn.cluster import KMeans
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    IsolationForest,
    RandomForestClassifier,
    RandomForestRegressor,
    VotingClassifier,
)
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.feature_selection import SelectKBest, f_classif
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression, RidgeClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.multioutput import MultiOutputClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler
from sklearn.svm import SVC, LinearSVC, OneClassSVM

from towline.convert.base import ConversionFailed
from towline.convert.tabular.source import TabularSource

SIGNATURE = "serving_default"


def kinds() -> Iterator[tuple[str, Any]]:
    data, labels = load_digits(return_X_y=True)
    data, labels = data[:300], labels[:300]
    odd_and_large = np.stack([labels % 2, labels > 4], axis=1).astype(int)
    words = np.array(list("abcdefghij"))[labels]
    small = LogisticRegression(max_iter=20)
    yield "classes with names", LogisticRegression(max_iter=20).fit(data, words)
    yield "two classes", LogisticRegression(max_iter=20).fit(data, labels > 4)
    yield "classes as floats", RandomForestClassifier(3, random_state=0).fit(data, labels.astype(float))
    yield "histogram boosting", HistGradientBoostingClassifier(max_iter=3).fit(data, labels)
    yield "several labels of a forest", RandomForestClassifier(3, random_state=0).fit(data, odd_and_large)
    yield "several labels of lines", MultiOutputClassifier(small).fit(data, odd_and_large)
    yield "scores of two classes", make_pipeline(StandardScaler(), LinearSVC()).fit(data, labels > 4)
    yield "scores of ten", SVC().fit(data, labels)
    yield "ridge", RidgeClassifier().fit(data, labels > 4)
    yield "calibrated", CalibratedClassifierCV(LinearSVC()).fit(data, labels > 4)
    yield "votes", VotingClassifier([("a", small), ("b", RandomForestClassifier(3, random_state=0))], voting="soft").fit(data, labels)
    yield "bayes", GaussianNB().fit(data[:, 20:30], labels)
    yield "regressor", RandomForestRegressor(3, random_state=0).fit(data, labels)
    yield "regressor of two", LinearRegression().fit(data, odd_and_large)
    yield "outliers", IsolationForest(n_estimators=5, random_state=0).fit(data)
    yield "one class", OneClassSVM().fit(data)
    yield "clusters", KMeans(4, random_state=0, n_init=1).fit(data)
    yield "clusters in float32", KMeans(4, random_state=0, n_init=1).fit(data.astype(np.float32))
    yield "scaler", StandardScaler().fit(data)
    yield "projection", PCA(4).fit(data)
    yield (
        "best of a search",
        GridSearchCV(make_pipeline(StandardScaler(), small), {"logisticregression__C": [0.1, 1]}, cv=2).fit(data, labels),
    )
    yield "selected features", make_pipeline(SelectKBest(f_classif, k=10), small).fit(data, labels)
    yield from of_frames()
    yield from of_lightgbm(data, labels)


def of_frames() -> Iterator[tuple[str, Any]]:
    rng = np.random.default_rng(0)
    people = pandas.DataFrame(
        {
            "age (years)": rng.normal(40, 9, 200),
            "city": rng.choice(["Köln", "Zürich", "Wien"], 200),
            "children": rng.integers(0, 4, 200),
            "unused": rng.normal(size=200),
        }
    )
    old = people["age (years)"] > 40
    small = LogisticRegression()
    numbers = make_pipeline(SimpleImputer(), StandardScaler())
    by_name = ColumnTransformer([("n", numbers, ["age (years)"]), ("c", OneHotEncoder(), ["city", "children"])])
    yield "columns by name", make_pipeline(by_name, small).fit(people, old)
    passed = ColumnTransformer([("c", OrdinalEncoder(), ["city"])], remainder="passthrough")
    yield "columns that pass through", make_pipeline(passed, RandomForestClassifier(3, random_state=0)).fit(people, old)
    by_place = ColumnTransformer([("n", StandardScaler(), [0]), ("c", OneHotEncoder(handle_unknown="ignore"), [1])])
    yield "columns by place", make_pipeline(by_place, small).fit(people[["age (years)", "city"]].to_numpy(dtype=object), old)
    yield "one table with names", make_pipeline(StandardScaler(), small).fit(people[["age (years)", "unused"]], old)
    yield "a table of words", make_pipeline(OneHotEncoder(), small).fit(people[["city"]], old)
    texts = ["a good film", "a bad film", "what a good day", "how bad a day"]
    yield "texts", make_pipeline(TfidfVectorizer(), small).fit(texts, [1, 0, 1, 0])


def of_lightgbm(data: np.ndarray, labels: np.ndarray) -> Iterator[tuple[str, Any]]:
    settings = {"verbose": -1, "n_estimators": 5}
    yield "lightgbm regressor", lightgbm.LGBMRegressor(**settings).fit(data, labels)
    yield "lightgbm behind a scaler", make_pipeline(StandardScaler(), lightgbm.LGBMClassifier(**settings)).fit(data, labels)
    yield "booster of two classes", lightgbm.LGBMClassifier(**settings).fit(data, labels > 4).booster_
    yield "booster of counts", lightgbm.train({"objective": "poisson", "verbose": -1}, lightgbm.Dataset(data, labels), 5)
    ranked = lightgbm.Dataset(data, labels % 4, group=[100] * 3)
    yield "booster that ranks", lightgbm.train({"objective": "lambdarank", "verbose": -1}, ranked, 5)
    rng = np.random.default_rng(0)
    kinds_and_numbers = np.stack([rng.integers(0, 9, 300), rng.normal(size=300)], axis=1)
    categorical = lightgbm.Dataset(kinds_and_numbers, (kinds_and_numbers[:, 0] > 4).astype(int), categorical_feature=[0])
    yield "booster with categories", lightgbm.train({"objective": "binary", "verbose": -1}, categorical, 5)


def main(folder: Path) -> None:
    warnings.simplefilter("ignore")
    told = {}
    for name, model in kinds():
        source = TabularSource(model)
        own = folder / name
        np.savez(_made(own) / "asked.npz", **{f"i{place}": array for place, array in enumerate(source.examples.values())})
        answers = source.answer(source.examples, signature=SIGNATURE)
        np.savez(own / "answered.npz", **answers)
        signature = source.signatures[SIGNATURE]
        routes: dict[str, str] = {}
        for route in source.routes:
            try:
                source.convert(route, _made(own / route))
                routes[route] = ""
            except ConversionFailed as error:
                routes[route] = error.message
        told[name] = {
            "routes": routes,
            "inputs": [[spec.name, spec.dtype, list(spec.shape or ())] for spec in signature.inputs],
            "outputs": [[spec.name, spec.dtype, list(spec.shape or ())] for spec in signature.outputs],
            "architecture": source.facts["architecture"],
            "features": source.facts.get("features", ""),
            "parameters": source.parameters,
        }
    (folder / "told.json").write_text(json.dumps(told))


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


if __name__ == "__main__":
    main(Path(sys.argv[1]))

"""Run by the environment that has scikit-learn and LightGBM: `tabular_models.py FOLDER` trains small models, saves each as people do,
and writes what the frameworks themselves answer.
"""

from __future__ import annotations

import pickle
import sys
from pathlib import Path
from typing import Any

import joblib
import lightgbm
import numpy as np
import pandas
from sklearn.datasets import load_digits
from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler


class Clip:
    """A step of the user's own, which no other process has."""

    def fit(self, X: Any, y: Any = None) -> Clip:
        return self

    def transform(self, X: Any) -> Any:
        return np.clip(X, 0, 10)

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        return {}


def main(folder: Path) -> None:
    data, labels = load_digits(return_X_y=True)
    digits = data.astype(np.float32)
    np.savez(folder / "digits.npz", X=digits)
    forest = RandomForestClassifier(20, random_state=0).fit(data, labels)
    pipeline = make_pipeline(StandardScaler(), LogisticRegression(max_iter=300)).fit(data, labels)
    boosting = GradientBoostingClassifier(n_estimators=10, max_depth=3, random_state=0).fit(data, labels)
    lgbm = lightgbm.LGBMClassifier(n_estimators=20, verbose=-1).fit(data, labels)
    # A forest behind a scaler: in float32 some rows fall on the other side of a split.
    scaled = make_pipeline(StandardScaler(), RandomForestClassifier(20, random_state=0)).fit(data, labels)

    joblib.dump(forest, folder / "forest.joblib", compress=3)
    (folder / "pipeline.pkl").write_bytes(pickle.dumps(pipeline, protocol=5))
    (folder / "boosting.pkl").write_bytes(pickle.dumps(boosting, protocol=2))
    joblib.dump(scaled, folder / "scaled.joblib", compress=("lzma", 1))
    lgbm.booster_.save_model(folder / "lgbm.txt")
    joblib.dump(lgbm, folder / "lgbm.pkl")
    models = {"forest.joblib": forest, "pipeline.pkl": pipeline, "boosting.pkl": boosting, "scaled.joblib": scaled}
    for name, model in {**models, "lgbm.txt": lgbm, "lgbm.pkl": lgbm}.items():
        np.savez(folder / f"{name}.expected.npz", label=model.predict(data), probabilities=model.predict_proba(data))
    odd(folder, data, labels, pipeline)


def odd(folder: Path, data: np.ndarray, labels: np.ndarray, pipeline: Any) -> None:
    """Files that are refused, or taken with a word."""
    clipped = make_pipeline(Clip(), LogisticRegression(max_iter=10)).fit(data, labels)
    called = make_pipeline(FunctionTransformer(np.log1p), LogisticRegression(max_iter=10)).fit(data, labels)
    joblib.dump(clipped, folder / "custom.joblib")
    joblib.dump(called, folder / "function.joblib")
    joblib.dump(LogisticRegression(), folder / "unfitted.joblib")
    joblib.dump(pandas.DataFrame({"a": [1, 2]}), folder / "frame.pkl")
    joblib.dump({"model": pipeline, "accuracy": 0.9, "columns": ["a"]}, folder / "dict.pkl")
    import sklearn

    saved = (folder / "pipeline.pkl").read_bytes()
    ours, older = sklearn.__version__.encode(), b"1.2.0"[: len(sklearn.__version__)].ljust(len(sklearn.__version__), b"0")
    (folder / "older.pkl").write_bytes(saved.replace(ours, older))


if __name__ == "__main__":
    main(Path(sys.argv[1]))

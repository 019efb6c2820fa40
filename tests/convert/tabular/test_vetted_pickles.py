"""What the pickle of a fitted model may name, and what is refused by name before it is imported."""

from __future__ import annotations

import pytest

from towline.convert.tabular.vetted import vet
from towline.core.errors import ImportRefused

# As scikit-learn 0.24 to 1.9, LightGBM 3 and 4, joblib and numpy 1 and 2 write them.
ORDINARY = [
    "sklearn.ensemble._forest RandomForestClassifier",
    "sklearn.tree._tree Tree",
    "sklearn._loss._loss __pyx_unpickle_CyHalfMultinomialLoss",
    "sklearn.feature_selection._univariate_selection f_classif",
    "sklearn.neighbors._kd_tree newObj",
    "lightgbm.sklearn LGBMClassifier",
    "lightgbm.basic Booster",
    "joblib.numpy_pickle NumpyArrayWrapper",
    "numpy ndarray",
    "numpy dtype",
    "numpy float64",
    "numpy log1p",
    "numpy.core.multiarray _reconstruct",
    "numpy._core.multiarray scalar",
    "numpy._core.numeric _frombuffer",
    "numpy.random._pickle __randomstate_ctor",
    "scipy.sparse._csr csr_matrix",
    "scipy.interpolate._interpolate interp1d",
    "pandas.core.indexes.base Index",
    "pandas DataFrame",
    "builtins slice",
    "__builtin__ set",
    "copy_reg _reconstructor",
    "_codecs encode",
    "collections OrderedDict",
]
RUNS_CODE = [
    "os system",
    "posix system",
    "nt system",
    "subprocess Popen",
    "builtins eval",
    "builtins exec",
    "builtins getattr",
    "builtins __import__",
    "__builtin__ eval",
    "importlib import_module",
    "runpy run_path",
    "pickle loads",
    "ctypes CDLL",
    "shutil rmtree",
    "webbrowser open",
    "socket create_connection",
    "numpy load",
    "numpy memmap",
    "numpy.testing._private.utils runstring",
    "numpy.f2py.crackfortran myeval",
    "scipy.io loadmat",
    "joblib load",
    "joblib.numpy_pickle load",
    "sklearn.datasets fetch_openml",
    "sklearn.utils._testing TempMemmap",
    "sklearn.utils.fixes os.system",
    "pandas.core.frame DataFrame.to_csv",
    "pandas read_pickle",
    "collections namedtuple",
    "copyreg __newobj__.__globals__",
]
CUSTOM = ["__main__ Clip", "mypackage.steps Clip", "xgboost.sklearn XGBClassifier", "pandas_extension Thing", "sklearning Model"]


@pytest.mark.parametrize("named", ORDINARY)
def test_what_fitted_models_are_made_of_may_be_named(named: str):
    vet(*named.split(" "))


@pytest.mark.parametrize("named", RUNS_CODE)
def test_what_could_run_code_is_refused_by_name(named: str):
    module, name = named.split(" ")

    with pytest.raises(ImportRefused) as refusal:
        vet(module, name)

    assert refusal.value.code == "SOURCE_RUNS_CODE"
    assert name in refusal.value.message


@pytest.mark.parametrize("named", CUSTOM)
def test_a_class_of_the_users_own_is_refused_with_its_name_and_the_way_out(named: str):
    with pytest.raises(ImportRefused, match="neither scikit-learn's nor LightGBM's") as refusal:
        vet(*named.split(" "))

    assert refusal.value.code == "CUSTOM_CLASS"
    assert named.replace(" ", ".") in refusal.value.message
    assert "handler.py" in refusal.value.hint


def test_a_hostile_name_stays_one_printable_line():
    with pytest.raises(ImportRefused) as refusal:
        vet("posix", "system\n\x1b[31m" + "a" * 1000)

    assert refusal.value.message.isprintable()
    assert len(refusal.value.message) < 200

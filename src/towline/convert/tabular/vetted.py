"""What a pickle of a fitted model may name. Pure.

A second voice, never the wall: the converter process stands behind the sandbox whatever is decided here. It turns most hostile files,
and every model made with somebody's own classes, into one clear sentence before anything of them is run or imported.
"""

from __future__ import annotations

import sys

from towline.convert.wording import name as quoted
from towline.core.errors import ImportRefused

# Whole packages, but for the parts of them that read, write or fetch files.
_PACKAGES = (
    "sklearn",
    "lightgbm",
    "pandas.core",
    "pandas.arrays",
    "pandas._libs",
    "scipy.sparse",
    "scipy.stats",
    "scipy.interpolate",
    "scipy.spatial",
)
# A model has no reason to name anything else of these.
_OURS = ("numpy", "scipy", "joblib", "pandas", *_PACKAGES)
_NOT_OF_THEM = ("sklearn.datasets", "sklearn.externals", "sklearn.utils._testing", "sklearn.tests", "sklearn.conftest", "lightgbm.dask")
_NAMES = {
    "builtins": {
        *("bool", "bytearray", "bytes", "complex", "dict", "float", "frozenset", "int", "list", "object", "range", "set", "slice"),
        *("str", "tuple"),
    },
    "collections": {"Counter", "OrderedDict", "defaultdict", "deque"},
    "copyreg": {"_reconstructor"},
    "_codecs": {"encode"},
    "datetime": {"date", "datetime", "timedelta"},
    "functools": {"partial"},
    "joblib.numpy_pickle": {"NDArrayWrapper", "NumpyArrayWrapper", "ZNDArrayWrapper"},
    "pandas": {"Categorical", "CategoricalDtype", "DataFrame", "Index", "MultiIndex", "RangeIndex", "Series", "StringDtype"},
    "types": {"SimpleNamespace"},
    "numpy.random._pickle": {"__bit_generator_ctor", "__generator_ctor", "__randomstate_ctor"},
    "numpy.random._mt19937": {"MT19937"},
    "numpy.random._pcg64": {"PCG64", "PCG64DXSM"},
}
_ARRAYS = {"_reconstruct", "scalar", "_frombuffer", "ndarray", "dtype", "matrix", "nan", "inf"}
_ARRAY_MODULES = ("numpy", "numpy.core.multiarray", "numpy._core.multiarray", "numpy.core.numeric", "numpy._core.numeric", "numpy.dtypes")
# Numbers of a type, and the functions on arrays that transformers are made with.
_ARRAY_WORDS = ("bool", "int", "uint", "float", "str", "log", "exp", "sqrt", "square", "abs", "sin", "cos", "tan", "mean", "median")
# Python 2 called them so, and protocol 2 still does.
_OLD_MODULES = {"__builtin__": "builtins", "copy_reg": "copyreg"}


def vet(module: str, name: str) -> None:
    """Raises ImportRefused unless a fitted model may name `name` of `module`."""
    module = _OLD_MODULES.get(module, module)
    if _may_name(module, name):
        return
    whole = quoted(f"{module}.{name}")
    if module != "__main__" and (module.partition(".")[0] in sys.stdlib_module_names or "." in name or _belongs(module, _OURS)):
        raise ImportRefused(
            f"The pickle would call {whole}; no fitted model needs that, so it is not read.",
            code="SOURCE_RUNS_CODE",
            hint="Whoever made this file made it to run code. Ask where it comes from.",
        )
    raise ImportRefused(
        f"The model is made with {whole}, which is neither scikit-learn's nor LightGBM's.",
        code="CUSTOM_CLASS",
        hint="Serve it by a class of your own: towline import handler.py:Class (docs/how-to/handler.md).",
    )


def _may_name(module: str, name: str) -> bool:
    if "." in name:
        return False
    if module in _ARRAY_MODULES:
        return name in _ARRAYS or name.startswith(_ARRAY_WORDS) or module == "numpy.dtypes"
    return name in _NAMES.get(module, ()) or (_belongs(module, _PACKAGES) and not _belongs(module, _NOT_OF_THEM))


def _belongs(module: str, packages: tuple[str, ...]) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)

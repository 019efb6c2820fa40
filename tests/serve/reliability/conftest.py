"""Its being here puts this folder on the import path: the tests share `load`, `known_models` and more."""

"""scikit-learn and LightGBM: read, answered and converted in the converter process."""

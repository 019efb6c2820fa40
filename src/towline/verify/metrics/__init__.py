"""Figures that say how good answers are, beside labels: of classifiers, of regressors, and of the difference between two versions."""

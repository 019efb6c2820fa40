"""Labelled data sets from files people have: read row by row, held to a version's signature, never a pickle."""

"""Proof that a converted model answers as the one it came from: requests, judgement, and where the two depart."""

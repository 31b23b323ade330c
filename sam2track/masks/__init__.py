"""Masks at rest: run-length encoding, masklet files, and how well masks agree."""

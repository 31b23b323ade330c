"""Masklets in the formats of the field."""

"""Selectively Informative Captions."""

"""Evaluation Prompts and Personalization Scorecard: whether a concept is any good."""

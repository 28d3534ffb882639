"""CoRe Train Embedding: a concept as a word."""

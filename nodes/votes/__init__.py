"""Blind Vote and Vote Results: which of two methods people prefer, without knowing which is which."""

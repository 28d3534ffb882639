"""One file per method: a frozen configuration with the published defaults, and a step that reads like its paper.

Recipes do not import each other.
"""

"""The sub-commands of python -m lab: their arguments, and where they begin."""

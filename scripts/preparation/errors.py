"""What can go wrong, told in a paragraph that says what to do."""


class PreparationError(Exception):
    """Shown to the user as it is, without a traceback."""

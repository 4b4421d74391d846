"""Marks in front of values of the command line, see ``lit_maprops.run.option_values``; no word begins with them."""

WRITTEN = "\0"  # what somebody wrote
EXACT = "\1"  # YAML of a value that is known exactly


def without_marks(text: str) -> str:
    """A message of the parser without the marks of the values that it shows."""
    for mark in (WRITTEN, EXACT):
        text = text.replace(mark, "").replace(repr(mark)[1:-1], "")
    return text

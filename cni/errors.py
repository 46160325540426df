"""The error that everything on the CNI side raises."""

from __future__ import annotations


class CniError(Exception):
    """A CNI error (SPEC.md, "Error").

    ``code`` is the specification's number (1 to 99) or a plugin's own; ``message`` is
    one line; ``details`` says what to do about it.
    """

    def __init__(self, code: int, message: str, details: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.details = details

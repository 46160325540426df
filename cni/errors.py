"""The CNI specification's errors (SPEC.md, "Error")."""

from __future__ import annotations

from typing import Final

INCOMPATIBLE_VERSION: Final = 1
UNKNOWN_CONTAINER: Final = 3
INVALID_VARIABLE: Final = 4
IO_FAILURE: Final = 5
UNDECODABLE: Final = 6
INVALID_CONFIG: Final = 7
TRY_AGAIN: Final = 11
INTERNAL: Final = 999

REASONS: Final = {
    INCOMPATIBLE_VERSION: "unsupported-version",
    2: "unsupported-field",
    UNKNOWN_CONTAINER: "unknown-container",
    INVALID_VARIABLE: "bad-environment",
    IO_FAILURE: "read-failed",
    UNDECODABLE: "bad-json",
    INVALID_CONFIG: "bad-config",
    TRY_AGAIN: "try-again",
    50: "not-ready",
    51: "limited-connectivity",
}
"""The stable short word for each of the specification's codes."""


class CniError(Exception):
    """An error with the three fields that CNI's error JSON has.

    Codes below 100 are the specification's; 100 and up belong to the plugin that
    raised it.  ``details`` may be empty.
    """

    def __init__(self, code: int, message: str, details: str = "") -> None:
        super().__init__(code, message, details)
        self.code = code
        self.message = message
        self.details = details

    def __str__(self) -> str:
        """Return message and details, joined as runtimes join them."""
        return f"{self.message}; {self.details}" if self.details else self.message

    @property
    def reason(self) -> str:
        """The short word for the code, which logs and counters may match on."""
        return REASONS.get(self.code, "internal")

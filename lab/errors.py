"""What the lab says when it cannot do what it was asked."""

from __future__ import annotations


class LabError(Exception):
    """A refusal with its cause and, where there is one, its remedy."""

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message}\n{self.remedy}" if self.remedy else self.message

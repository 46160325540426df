"""Structured logs: one JSON object a line on standard error."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any, Final

import structlog
from structlog.processors import format_exc_info
from structlog.typing import EventDict

_ENCODER: Final = json.JSONEncoder(default=str)


def line(logger: Any, level: str, event: EventDict) -> str:
    """Write an event as JSON: its fields, its words, its level, the time.

    One processor in place of structlog's own for each of these: nearly every line is
    a request's, and most of its cost would be theirs.
    """
    event["level"] = level
    event["time"] = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    if "exc_info" in event:
        event = format_exc_info(logger, level, event)
    return _ENCODER.encode(event)


def configure(level: str = "info") -> None:
    """Send every event of at least this level to standard error, as JSON.

    ``level`` is one of debug, info, warn, error, fatal, in any case.
    """
    number = {
        "debug": logging.DEBUG,
        "info": logging.INFO,
        "warn": logging.WARNING,
        "error": logging.ERROR,
        "fatal": logging.CRITICAL,
    }[level.lower()]
    structlog.configure(
        processors=[line],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )

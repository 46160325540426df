"""Structured logs: one JSON object a line on standard error."""

from __future__ import annotations

import json
import logging
import sys
from typing import Any, Final

import structlog

_ENCODER: Final = json.JSONEncoder(default=str)


def _written(event: Any, **_: Any) -> str:
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
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(_written),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )

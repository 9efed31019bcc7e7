"""Structured logs: one JSON object a line on standard error. State changes are logged, never single records."""

from __future__ import annotations

import logging
import sys

import structlog


def configure(stage: str, run: str, *, level: str = "info", **bound: str) -> None:
    """Bind `stage`, `run` and what else is constant for this process to every line."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(stage=stage, run=run, **bound)


def get() -> structlog.typing.FilteringBoundLogger:
    """Return the logger: `log.warning("book.suspected", instrument=…, reason=…)`."""
    logger: structlog.typing.FilteringBoundLogger = structlog.get_logger()
    return logger

"""The one exception family whose message is shown to a user as a single line; anything else is a bug."""

from __future__ import annotations


class EdgewakeError(Exception):
    """An expected failure. The message names the value, the limit and the remedy, in one line."""


class ConfigError(EdgewakeError):
    """A configuration key or value is wrong; the message has the key's full path."""


class AudioError(EdgewakeError):
    """An audio file or stream cannot be used; the message names the file."""


class BudgetError(EdgewakeError):
    """A model or pipeline exceeds what its target allows."""


class ParityError(EdgewakeError):
    """A parity check failed: two computations that must agree do not."""


class MissingDependencyError(EdgewakeError):
    """An optional dependency is not installed; the message has the pip command."""


class ReportedError(EdgewakeError):
    """Ends a process whose failure another one reports: several processes that train together say it once."""

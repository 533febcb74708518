"""The log of the union, without the import of logging, which takes 8 ms of a mount.

A process that mounts says by `send_to` where its log goes.  In any other one, as a program
that has the union as a library, records go to logging.

Decided here and only here: what becomes of a record.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator

DEBUG, INFO, WARNING, ERROR = 10, 20, 30, 40
"""The levels, with the numbers of logging."""

Sink = Callable[[int, str, str], None]
"""Takes a record: its level, the name of its module, its text.  Never raises."""

_sink: Sink | None = None
_least = DEBUG


def _traced(error: BaseException) -> Iterator[str]:
    """Yield the lines of a traceback, without those of the source.

    To read these, and to import what does, can be a request to the mount that logs.
    """
    if error.__cause__ is not None:
        yield from _traced(error.__cause__)
        yield "It was the cause of:"
    elif error.__context__ is not None and not error.__suppress_context__:
        yield from _traced(error.__context__)
        yield "While it was handled there was:"
    yield "Traceback (most recent call last):"
    at = error.__traceback__
    while at is not None:
        code = at.tb_frame.f_code
        yield f'  File "{code.co_filename}", line {at.tb_lineno}, in {code.co_qualname}'
        at = at.tb_next
    yield f"{type(error).__qualname__}: {error}"


def send_to(sink: Sink | None, least: int = DEBUG) -> None:
    """Give all records of the level `least` and above to `sink`; to logging if it is None."""
    global _sink, _least
    _sink, _least = sink, least


def take_logging() -> None:
    """Give the sink also what other libraries tell logging.  Without one nothing changes."""
    if _sink is None:
        return
    import logging

    sink: Sink = _sink

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            level = max(DEBUG, min(record.levelno // 10 * 10, ERROR))
            if level >= _least:
                sink(level, record.name, self.format(record))

    logging.getLogger().addHandler(Handler())
    logging.getLogger().setLevel(_least)


class Logger:
    """Takes the records of the module `name`; their texts are formatted by `%`."""

    __slots__ = ("_name",)

    def __init__(self, name: str) -> None:
        self._name = name

    def debug(self, text: str, *values: object) -> None:
        """Log what helps to find a fault."""
        self.log(DEBUG, text, *values)

    def info(self, text: str, *values: object) -> None:
        """Log what happened."""
        self.log(INFO, text, *values)

    def warning(self, text: str, *values: object) -> None:
        """Log what works less well than it should."""
        self.log(WARNING, text, *values)

    def error(self, text: str, *values: object, exc_info: BaseException | None = None) -> None:
        """Log what failed, with the traceback of `exc_info`."""
        self.log(ERROR, text, *values, exc_info=exc_info)

    def exception(self, text: str, *values: object) -> None:
        """Log what failed, with the traceback of the exception that is being handled."""
        self.log(ERROR, text, *values, exc_info=sys.exc_info()[1])

    def log(
        self, level: int, text: str, *values: object, exc_info: BaseException | None = None
    ) -> None:
        """Log a record of the level."""
        if _sink is None:
            # Until logging is imported it has no level but its default.
            if level >= WARNING or "logging" in sys.modules:
                import logging

                logger = logging.getLogger(self._name)
                logger.log(level, text, *values, exc_info=exc_info, stacklevel=3)
        elif level >= _least:
            said = text % values if values else text
            if exc_info is not None:
                said = "\n".join((said, *_traced(exc_info)))
            _sink(level, self._name, said)

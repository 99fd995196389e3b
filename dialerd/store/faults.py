"""What a database's failure means: is the store ill, or is what was asked of it bad? And in words that may be told."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, SQLAlchemyError, StatementError

from dialerd.store.errors import StoreError

_BAD_DATA, _BROKEN_CONSTRAINT = "22", "23"
"""Classes of SQLSTATE (PostgreSQL, appendix A): what was to be written cannot be, however often it is tried."""


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Turn what a database's driver raises into StoreError."""
    try:
        yield
    except (SQLAlchemyError, OSError) as error:
        raise as_store_error(error) from error


def as_store_error(error: Exception) -> StoreError:
    """The failure in the driver's own words, without the statement and its parameters: they hold people's data."""
    return StoreError(_words(error)[:300], permanent=is_permanent(error))


def is_the_stores(error: Exception | None) -> bool:
    """Whether the database itself failed, or cannot be reached, and not what was asked of it."""
    return isinstance(error, OSError) or (isinstance(error, DBAPIError) and not is_permanent(error))


def is_permanent(error: Exception) -> bool:
    """Whether the fault lies in what was to be written, so that writing it again would fail again."""
    if isinstance(error, DBAPIError):
        return isinstance(error, IntegrityError | DataError) or _is_refused(error.orig)
    # What a column's type or the driver cannot take (too large a number, half a character) is no fault of the database.
    return isinstance(error, StatementError) or not isinstance(error, SQLAlchemyError | OSError)


def _is_refused(error: BaseException | None) -> bool:
    state = getattr(error, "sqlstate", None)
    if state is None:
        # asyncpg's own complaint of a parameter that it cannot write.
        return isinstance(_of_the_driver(error), ValueError)
    return isinstance(state, str) and state[:2] in (_BAD_DATA, _BROKEN_CONSTRAINT)


def _of_the_driver(error: BaseException | None) -> BaseException | None:
    """What asyncpg raised, below SQLAlchemy's wrapping; of SQLite, the same error."""
    return error.__cause__ if error is not None and hasattr(error, "pgcode") and error.__cause__ else error


def _words(error: Exception) -> str:
    cause: BaseException = error.orig if isinstance(error, StatementError) and error.orig is not None else error
    cause = _of_the_driver(cause) or cause
    name = type(cause).__name__
    if isinstance(cause, UnicodeEncodeError):
        return f"{name}: {cause.reason}"  # Python shows the text that it could not encode; its reason does not
    if isinstance(cause, TimeoutError):
        return f"{name}: no answer in time"
    if type(cause).__module__.partition(".")[0] != "asyncpg":
        return f"{name}: {cause}"
    # The first line of PostgreSQL's message; its detail shows the row. Of bad data even that shows a value.
    state = getattr(cause, "sqlstate", None)
    if state is None:
        return f"{name}: {str(cause).partition(':')[0]}"
    return f"{name} ({state})" if state.startswith(_BAD_DATA) else f"{name}: {cause.args[0]}"

"""Who looked at whom and who did what: an entry for each read of a record or audit trail and for each operator command.

An entry is written before the data is read or the command is run, and if it cannot be written, neither happens: an
access that nobody can be asked about later must not take place. The entries live where the records live, so what keeps
one from being written mostly keeps the other from being read, too.
"""

import logging
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Final, NamedTuple, Protocol

from eventstore import EventStoreError, utc_text

from .errors import FlowError
from .references import References

DAYS_KEPT: Final = 400
"""Days after which an entry is forgotten: a year, and time to look at it."""
_MAX_TOLD = 250  # characters of who and what

_log = logging.getLogger(__name__)


class AccessEntry(NamedTuple):
    """One access.

    Attributes:
        at: when, in UTC text form.
        who: `key` for whoever has a key, name and object id of an Entra ID principal, or `cli:` and a login.
        what: the function or command and what it was to do; never an id or a value of a client.
        client_ref: the client's reference, None if it was about no single client.
    """

    at: str
    who: str
    what: str
    client_ref: str | None = None


class AccessLog(Protocol):
    """Entries of the last `DAYS_KEPT` days."""

    def add(self, entry: AccessEntry) -> None:
        """Keep an entry; it is durable when this returns. One request.

        Raises:
            StoreUnavailableError: it may not be kept now.
            StoreRefusedError: it cannot be kept.
        """

    def entries(
        self, *, client_ref: str | None = None, since: str | None = None, until: str | None = None
    ) -> Iterator[AccessEntry]:
        """Entries, newest first, fetched in pages as they are used.

        Args:
            client_ref: only those about this client.
            since: of this time or later, in UTC text form.
            until: before this time, in UTC text form.

        Raises:
            StoreUnavailableError: the database is out of reach.
        """


class AccessNotRecordedError(FlowError):
    """The entry of an access could not be written, so the access did not take place."""

    def __init__(self, kind: str) -> None:
        super().__init__(
            f"The access could not be recorded ({kind}), so nothing was read or done; try again in a moment, and run "
            "`client-flow provision` if it stays like this."
        )


class AccessRecorder:
    """Enters accesses in the access log.

    Args:
        log: keeps the entries.
        references: what clients are called.
        clock: present time.
    """

    def __init__(self, log: AccessLog, references: References, clock: Callable[[], datetime]) -> None:
        self._log = log
        self._references = references
        self._clock = clock

    def record(self, who: str, what: str, client_id: str | None = None) -> None:
        """Enter an access; to be called before it takes place.

        Args:
            who: the caller, see `AccessEntry`.
            what: the function or command and what it is to do, without ids or values of a client.
            client_id: the client it is about, if it is about one.

        Raises:
            AccessNotRecordedError: it could not be entered, so it must not take place.
        """
        about = None if client_id is None else self._references.client(client_id)
        try:
            self._log.add(AccessEntry(utc_text(self._clock()), who[:_MAX_TOLD], what[:_MAX_TOLD], about))
        except EventStoreError as error:
            _log.error("An access could not be recorded and is refused: %s", type(error).__name__)
            raise AccessNotRecordedError(type(error).__name__) from error

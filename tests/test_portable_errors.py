"""Errors that come from another process, as those of a command's workers do."""

import pickle

import pytest

from eventstore import (
    FieldProblem,
    HistoryForkedError,
    InvalidEventError,
    PortableError,
    StoreRefusedError,
    StoreUnavailableError,
)
from functions_app.errors import MissingSettingError, WorkerLostError
from integrations import QueueUnavailableError
from projections import FingerprintMismatchError, OvertakenError


@pytest.mark.parametrize(
    "error",
    [
        StoreUnavailableError("the disk is full"),
        StoreRefusedError(403, 5300),
        HistoryForkedError("1", 3),
        InvalidEventError(FieldProblem("email", "too long"), FieldProblem("name", "missing")),
        FingerprintMismatchError("clients.v2"),
        OvertakenError("clients.v1"),
        QueueUnavailableError("the namespace is away", retry_after=3.0),
        MissingSettingError("CRM_URL"),
        WorkerLostError(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_is_the_same_when_it_arrives(error: PortableError) -> None:
    """Class, message and attributes, whatever it was made of."""
    arrived = pickle.loads(pickle.dumps(error))
    assert (type(arrived), str(arrived), vars(arrived)) == (type(error), str(error), vars(error))

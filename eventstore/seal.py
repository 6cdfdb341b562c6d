"""Seals: the heads of all streams in a file, kept where nobody who can write the database can write.

    {"format": "client-flow seal", "version": 1, "sealed_at": "..."}
    ["<client id>", <version>, "<hash>"]                                  one line for each client
    {"clients": <number>, "hash": "<SHA-256 of all lines before>"}

A head's hash covers its whole stream. So with the seal, any event that was changed, removed or cut since is found, also
if all hashes after it were worked out anew.
"""

import os
from collections.abc import Iterable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import orjson

from .chain import CHANGED, MISSING, REWRITTEN, ChainCheck, ChainProblem
from .errors import HistoryForkedError, SealError
from .ports import EventStore

_FORMAT = "client-flow seal"
_VERSION = 1


class Sealed(NamedTuple):
    """The head of one stream when it was sealed.

    Attributes:
        client_id: text of the client id.
        version: of the last event.
        hash: of that event.
    """

    client_id: str
    version: int
    hash: str


class Seal(NamedTuple):
    """What a seal file says of itself.

    Attributes:
        sealed_at: when it was begun, in UTC text form.
        clients: how many streams it covers.
        hash: SHA-256 over all of it; to be noted elsewhere, since whoever can write the file can write this, too.
    """

    sealed_at: str
    clients: int
    hash: str


def write_seal(path: Path, heads: Iterable[Sealed], *, sealed_at: str) -> Seal:
    """Write a seal, a line at a time, readable by its owner only; a file that is there is replaced at the end.

    Args:
        path: the file.
        heads: the streams, none twice.
        sealed_at: present time, in UTC text form.

    Raises:
        OSError: the file cannot be written.
    """
    unfinished = path.with_name(f"{path.name}.part")
    clients, digest = 0, sha256()
    with open(unfinished, "wb", opener=_private) as file:

        def put(document: Any) -> None:
            line = orjson.dumps(document, option=orjson.OPT_APPEND_NEWLINE)
            digest.update(line)
            file.write(line)

        put({"format": _FORMAT, "version": _VERSION, "sealed_at": sealed_at})
        for head in heads:
            put(list(head))
            clients += 1
        seal = Seal(sealed_at, clients, digest.hexdigest())
        put({"clients": clients, "hash": seal.hash})
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)
    return seal


def open_seal(path: Path) -> tuple[Seal, Iterator[Sealed]]:
    """A seal that is whole and as it was written, and its heads, read a line at a time.

    Raises:
        SealError: it is no seal, not whole, or was changed.
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        seal = _checked(file)
    return seal, _heads(path)


def check_sealed(events: EventStore, sealed: Sealed) -> list[ChainProblem]:
    """What is not as it was in a sealed stream; events after the seal only have to continue it.

    Raises:
        StoreUnavailableError: the database is out of reach.
    """
    chain = ChainCheck()
    rewritten = []
    try:
        for event in events.read(sealed.client_id):
            chain.see(event)
            if event.version == sealed.version and event.hash != sealed.hash:
                rewritten.append(ChainProblem(event.version, REWRITTEN))
    except HistoryForkedError as error:
        return [*chain.problems, ChainProblem(error.version, CHANGED)]
    if chain.version < sealed.version:
        chain.problems.append(ChainProblem(chain.version + 1, MISSING))
    # A hash that only broke the chain was found already; one that fits the chain was worked out anew.
    return chain.problems or rewritten


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _checked(file: BinaryIO) -> Seal:
    digest, clients, first, line = sha256(), 0, file.readline(), b""
    header = _object(first)
    if header.get("format") != _FORMAT or header.get("version") != _VERSION:
        raise SealError("it is no seal of this software, or one of a newer version")
    digest.update(first)
    for line in file:
        if line.startswith(b"{"):
            break
        _head(line)
        clients += 1
        digest.update(line)
    found = _object(line)
    if found != {"clients": clients, "hash": digest.hexdigest()} or file.read(1):
        raise SealError("it is not whole, or was changed after it was written")
    return Seal(str(header.get("sealed_at")), clients, digest.hexdigest())


def _heads(path: Path) -> Iterator[Sealed]:
    with path.open("rb") as file:
        for line in file:
            if line.startswith(b"["):
                yield _head(line)


def _head(line: bytes) -> Sealed:
    try:
        match orjson.loads(line):
            case [str(client_id), int(version), str(hash_)] if type(version) is int and version > 0:
                return Sealed(client_id, version, hash_)
    except orjson.JSONDecodeError:
        pass
    raise SealError("a line does not name a client, a version and a hash")


def _object(line: bytes) -> dict[str, Any]:
    try:
        document = orjson.loads(line)
    except orjson.JSONDecodeError:
        return {}
    return document if isinstance(document, dict) else {}

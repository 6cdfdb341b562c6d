"""Operations on single documents, and transactional batches of them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import orjson

from tests.wire.cosmos import charges
from tests.wire.cosmos.container import Container, Transaction
from tests.wire.cosmos.messages import Answer, CosmosError, Request, as_double, dump
from tests.wire.cosmos.query import parse_condition
from tests.wire.cosmos.storage import Document, Partition

MOST_BATCH_OPERATIONS = 100
LARGEST_BATCH = 2 * 1024 * 1024
_MOST_PATCHES = 10
_FAILED_DEPENDENCY = 424


@dataclass(frozen=True)
class Operation:
    """One operation on one document, alone or in a batch."""

    type: str
    id: str
    body: Any = None
    if_match: str | None = None
    if_none_match: str | None = None


@dataclass(frozen=True)
class Outcome:
    """What an operation answers; `document` is None when there is nothing to show."""

    status: int
    document: Document | None
    charge: float


def answer_item(container: Container, request: Request) -> Answer:
    """Create, upsert, read, replace, patch or delete one document."""
    partition = _partition(container, request)
    body = request.json() if request.body else None
    operation = Operation(
        request.kind.capitalize(),
        request.segments[5] if len(request.segments) > 5 else _id_of(body),  # .../docs/{id}
        body,
        request.headers.get("if-match"),
        request.headers.get("if-none-match"),
    )
    if operation.type == "Read":
        return _read(container, partition, operation, request.session())
    with container.transaction(partition) as transaction:
        outcome = apply(operation, transaction)
    answer = Answer(outcome.status, charge=outcome.charge, headers=session_headers(partition))
    if outcome.document is not None:
        answer.headers["etag"] = outcome.document.etag
        if request.headers.get("prefer") != "return=minimal":
            answer.body = outcome.document.encoded
    return answer


def answer_batch(container: Container, request: Request) -> Answer:
    """Run a transactional batch: all of its operations, or none and 207 with the guilty one's status."""
    operations = request.json()
    if len(operations) > MOST_BATCH_OPERATIONS:
        raise CosmosError(400, message="Batch request has more operations than what is supported.")
    if len(request.body) > LARGEST_BATCH:
        raise CosmosError(413)
    partition = _partition(container, request)
    results: list[dict[str, Any]] = []
    try:
        with container.transaction(partition) as transaction:
            results.extend(_result(apply(_batched(operation), transaction)) for operation in operations)
    except CosmosError as error:
        body = failed_batch(len(operations), len(results), error.status, error.sub_status)
        return Answer(207, body, session_headers(partition), charges.REFUSED)
    charge = sum(result["requestCharge"] for result in results)
    return Answer(200, dump(results), session_headers(partition), charge)


def failed_batch(operations: int, guilty: int, status: int, sub_status: int = 0) -> bytes:
    """The body that tells which operation of a batch made all of them fail."""
    results: list[dict[str, float]] = [
        {"statusCode": _FAILED_DEPENDENCY, "requestCharge": 0.0} for _ in range(operations)
    ]
    results[guilty] = {"statusCode": status, "subStatusCode": sub_status, "requestCharge": charges.REFUSED}
    return dump(results)


def session_headers(partition: Partition, lsn: int | None = None) -> dict[str, str]:
    """The headers that tell a client which state of which range it has seen."""
    range_ = partition.range
    return {
        "x-ms-session-token": f"{range_.id}:-1#{range_.lsn if lsn is None else lsn}",
        "x-ms-documentdb-partitionkeyrangeid": range_.id,
    }


def apply(operation: Operation, transaction: Transaction) -> Outcome:
    """Run one operation inside a transaction.

    Raises:
        CosmosError: 400, 403, 404, 409, 412 or 413, as the service answers.
    """
    if operation.type not in _HANDLERS:
        raise CosmosError(400, message=f"Unknown operation {operation.type}; expected one of {sorted(_HANDLERS)}.")
    if operation.if_none_match is not None:
        raise CosmosError(400, message="If-None-Match is served for reads only; use create for what must not exist.")
    before = transaction.find(operation.id)
    if before is not None and operation.if_match not in {None, "*", before.etag}:
        raise CosmosError(412)
    if before is None and operation.type not in {"Create", "Upsert"}:
        raise CosmosError(404)
    return _HANDLERS[operation.type](operation, transaction, before)


def _create(operation: Operation, transaction: Transaction, before: Document | None) -> Outcome:
    if before is not None:
        raise CosmosError(409)
    after = transaction.put(operation.body, None)
    return Outcome(201, after, _cost(after))


def _upsert(operation: Operation, transaction: Transaction, before: Document | None) -> Outcome:
    after = transaction.put(operation.body, before)
    return Outcome(201 if before is None else 200, after, _cost(before) + _cost(after))


def _read_one(_operation: Operation, _transaction: Transaction, before: Document | None) -> Outcome:
    assert before is not None
    return Outcome(200, before, charges.read(len(before.encoded)))


def _replace(operation: Operation, transaction: Transaction, before: Document | None) -> Outcome:
    if _id_of(operation.body) != operation.id:
        raise CosmosError(400, message="Replacing the id of a document is not allowed.")
    after = transaction.put(operation.body, before)
    return Outcome(200, after, _cost(before) + _cost(after))


def _patch(operation: Operation, transaction: Transaction, before: Document | None) -> Outcome:
    assert before is not None
    condition, patches = operation.body.get("condition"), operation.body["operations"]
    if condition and parse_condition(condition)(before.body) is not True:
        raise CosmosError(412, 1110)
    if len(patches) > _MOST_PATCHES:
        raise CosmosError(400, message=f"A patch has at most {_MOST_PATCHES} operations.")
    body = orjson.loads(before.encoded)
    for patch in patches:
        _patch_one(body, patch)
    return _replace(Operation("Replace", operation.id, body), transaction, before)


def _delete(_operation: Operation, transaction: Transaction, before: Document | None) -> Outcome:
    assert before is not None
    transaction.remove(before)
    return Outcome(204, None, _cost(before))


_HANDLERS: dict[str, Callable[[Operation, Transaction, Document | None], Outcome]] = {
    "Create": _create,
    "Upsert": _upsert,
    "Read": _read_one,
    "Replace": _replace,
    "Patch": _patch,
    "Delete": _delete,
}


def _patch_one(body: dict[str, Any], patch: dict[str, Any]) -> None:
    """Apply one patch operation to a body, in place."""
    kind: str = patch["op"]
    value: Any = patch.get("value")
    parent, name = _locate(body, patch["path"])
    exists = name in parent if isinstance(parent, dict) else 0 <= int(name) < len(parent)
    if kind in {"remove", "replace"} and not exists:
        raise CosmosError(400, message=f"The patch path {patch['path']} does not exist.")
    if kind == "remove":
        del parent[name]
    elif kind == "incr":
        parent[name] = as_double(repr((parent[name] if exists else 0) + value))
    elif kind == "move":
        source, source_name = _locate(body, patch["from"])
        parent[name] = source.pop(source_name)
    elif kind == "add" and isinstance(parent, list):
        parent.insert(int(name), value)
    elif kind in {"add", "set", "replace"}:
        parent[name] = value
    else:
        raise CosmosError(400, message=f"Unknown patch operation {kind}.")


def _locate(body: dict[str, Any], path: str) -> tuple[Any, Any]:
    """The object or array that holds a JSON pointer's last part, and the key or position in it."""
    *parts, last = (part.replace("~1", "/").replace("~0", "~") for part in path.strip("/").split("/"))
    parent: Any = body
    try:
        for part in parts:
            parent = parent[int(part) if isinstance(parent, list) else part]
        if isinstance(parent, list):
            return parent, len(parent) if last == "-" else int(last)
    except (KeyError, IndexError, ValueError, TypeError) as error:
        raise CosmosError(400, message=f"The patch path {path} does not exist.") from error
    return parent, last


def _read(container: Container, partition: Partition, operation: Operation, session: dict[str, int]) -> Answer:
    """A point read, which may see an older state."""
    lsn, older = partition.range.view(session)
    document = older.get((partition, operation.id), partition.documents.get(operation.id))
    headers = session_headers(partition, lsn)
    if document is None:
        return Answer(404, CosmosError(404).answer(0).body, headers, charges.REFUSED)
    headers["etag"] = document.etag
    if operation.if_none_match == document.etag:
        return Answer(304, headers=headers, charge=charges.REFUSED)
    return Answer(200, document.encoded, headers, charges.read(len(document.encoded)))


def _batched(operation: dict[str, Any]) -> Operation:
    body = operation.get("resourceBody")
    document_id = operation.get("id") or _id_of(body)
    return Operation(
        operation["operationType"], document_id, body, operation.get("ifMatch"), operation.get("ifNoneMatch")
    )


def _result(outcome: Outcome) -> dict[str, Any]:
    result: dict[str, Any] = {"statusCode": outcome.status, "requestCharge": outcome.charge}
    if outcome.document is not None:
        result |= {"eTag": outcome.document.etag, "resourceBody": orjson.Fragment(outcome.document.encoded)}
    return result


def _cost(document: Document | None) -> float:
    return 0.0 if document is None else charges.write(len(document.encoded), document.indexed_values)


def _partition(container: Container, request: Request) -> Partition:
    key = request.partition_key()
    if key is None:
        raise CosmosError(400, message="The request needs a partition key.")
    return container.partition(key)


def _id_of(body: Any) -> str:
    if not isinstance(body, dict):
        raise CosmosError(400, message="The body must be a JSON object.")
    return str(body.get("id", ""))

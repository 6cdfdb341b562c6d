"""Operations on single documents, and transactional batches of them."""

from dataclasses import dataclass
from typing import Any

import orjson

from tests.wire.cosmos import charges
from tests.wire.cosmos.container import Container, Write
from tests.wire.cosmos.messages import Answer, CosmosError, Request, not_served, session_headers
from tests.wire.cosmos.partition import Document, Partition

MOST_BATCH_OPERATIONS = 100
LARGEST_BATCH = 2 * 1024 * 1024
_FAILED_DEPENDENCY = 424


@dataclass(frozen=True)
class Outcome:
    """What a write answers; `document` is None after a delete."""

    status: int
    document: Document | None
    charge: float


def answer_item(container: Container, request: Request) -> Answer:
    """Create, upsert, read, replace or delete one document."""
    if "if-none-match" in request.headers:
        raise not_served("If-None-Match, except for the change feed")
    partition = _partition(container, request)
    if request.kind == "read":
        return _read(container, partition, request)
    operation = {
        "operationType": request.kind.capitalize(),
        "id": request.segments[5] if len(request.segments) > 5 else None,  # .../docs/{id}
        "resourceBody": request.json() if request.body else None,
        "ifMatch": request.headers.get("if-match"),
    }
    with container.transaction(partition) as write:
        outcome = _apply(operation, container, partition, write)
    answer = Answer(outcome.status, charge=outcome.charge, headers=_session(container, partition))
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
    outcomes: list[Outcome] = []
    try:
        with container.transaction(partition) as write:
            outcomes.extend(_apply(operation, container, partition, write) for operation in operations)
    except CosmosError as error:
        body = failed_batch(len(operations), len(outcomes), error.status, error.sub_status)
        return Answer(207, body, _session(container, partition), charges.REFUSED)
    charge = sum(outcome.charge for outcome in outcomes)
    return Answer(200, orjson.dumps(list(map(_result, outcomes))), _session(container, partition), charge)


def failed_batch(operations: int, guilty: int, status: int, sub_status: int = 0) -> bytes:
    """The body that tells which operation of a batch made all of them fail."""
    results: list[dict[str, float]] = [
        {"statusCode": _FAILED_DEPENDENCY, "requestCharge": 0.0} for _ in range(operations)
    ]
    results[guilty] = {"statusCode": status, "subStatusCode": sub_status, "requestCharge": charges.REFUSED}
    return orjson.dumps(results)


def _apply(operation: dict[str, Any], container: Container, partition: Partition, write: Write) -> Outcome:
    """Run an operation, in the form in which batches have them, inside a transaction."""
    kind, body, if_match = operation["operationType"], operation.get("resourceBody") or {}, operation.get("ifMatch")
    if kind not in {"Create", "Upsert", "Replace", "Delete"} or "ifNoneMatch" in operation:
        raise not_served(f"the operation {kind}, or one with If-None-Match")
    before = partition.documents.get(operation.get("id") or body["id"])
    if before is None and kind in {"Replace", "Delete"}:
        raise CosmosError(404)
    if before is not None and kind == "Create":
        raise CosmosError(409)
    if before is not None and if_match not in {None, "*", before.etag}:
        raise CosmosError(412)
    if before is not None and body.get("id", before.id) != before.id:
        raise CosmosError(400, message="Replacing the id of a document is not allowed.")
    after = None if kind == "Delete" else container.document(body, partition, before)
    write(before, after)
    status = 204 if after is None else 201 if before is None else 200
    written = (document for document in (before, after) if document is not None)
    charge = sum(charges.write(len(each.encoded), container.policy.count(each.body)) for each in written)
    return Outcome(status, after, charge)


def _read(container: Container, partition: Partition, request: Request) -> Answer:
    """A point read, which may see an older state."""
    range_ = container.range_of(partition)
    lsn = container.view(range_, request.session())
    document = partition.documents_at(lsn).get(request.segments[5])
    headers = session_headers({range_.id: lsn})
    if document is None:
        return Answer(404, CosmosError(404).answer(0).body, headers, charges.REFUSED)
    headers["etag"] = document.etag
    return Answer(200, document.encoded, headers, charges.read(len(document.encoded)))


def _session(container: Container, partition: Partition) -> dict[str, str]:
    return session_headers({container.range_of(partition).id: container.lsn})


def _result(outcome: Outcome) -> dict[str, Any]:
    result: dict[str, Any] = {"statusCode": outcome.status, "requestCharge": outcome.charge}
    if outcome.document is not None:
        result |= {"eTag": outcome.document.etag, "resourceBody": orjson.Fragment(outcome.document.encoded)}
    return result


def _partition(container: Container, request: Request) -> Partition:
    key = request.partition_key()
    if key is None:
        raise CosmosError(400, message="The request needs a partition key.")
    return container.partition(key)

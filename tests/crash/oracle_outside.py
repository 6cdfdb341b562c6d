"""The part of the oracle that looks at what the outside world was told."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from tests.crash.left import Left, Values, require


def check_announcements(left: Left, folded: Mapping[str, Values]) -> dict[str, list[dict[str, Any]]]:
    """I7: nothing waits, nobody was left out, and the last word equals the record. Returns the messages by client."""
    kept = left.kept
    require(not kept.outbox, "outbox is empty", f"{kept.outbox}")
    messages: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for data in kept.told:
        messages[data["client_id"]].append(data)
    for client, values in folded.items():
        heard: list[int] = []
        world: dict[str, Any] = {}
        for data in messages[client]:
            if heard and data["seq"] <= heard[-1]:
                continue  # as a subscriber does that may be told twice
            heard.append(data["seq"])
            require(data["previous_seq"] == data["seq"] - 1, "each announcement heard", f"{client}: {heard}")
            world.update(data["changed"])
        require(
            heard == list(range(1, kept.announced.get(client, 0) + 1)), "each announcement heard", f"{client}: {heard}"
        )
        require(
            {name: content for name, content in world.items() if content is not None} == _contents(values),
            "last announcement is the record",
            f"{client}: {world}",
        )
    return messages


def _contents(values: Values) -> dict[str, Any]:
    return {name: fields.get("*", fields) for name, fields in values.items()}


def check_targets(left: Left, folded: Mapping[str, Values]) -> None:
    """I8: both targets hold what the records come to, one object for each client."""
    require(not left.overlaps, "one call at a time", f"{left.overlaps}")
    numbers = [person["number"] for person in left.people.values()]
    require(len(numbers) == len(set(numbers)), "each effect once", f"{sorted(numbers)}")
    people, subscribers = {}, {}
    for client, values in folded.items():
        name, email = values.get("identity", {}).get("name"), values.get("contact", {}).get("email")
        if name or email or client in numbers:
            people[client] = {"number": client, "name": name, "email": email}
        if email:
            subscribers[client] = {"email": email}
    told = {person["number"]: person for person in left.people.values()}
    require(told == people, "the CRM has the latest", f"{told} instead of {people}")
    require(dict(left.subscribers) == subscribers, "the mailing system has the latest", f"{dict(left.subscribers)}")


def check_deliveries(left: Left, messages: Mapping[str, Sequence[dict[str, Any]]]) -> None:
    """I8: what was announced is delivered, nothing is left over, and no state ever went backwards."""
    shown = ("wanted", "delivered", "due_at", "claimed_until", "failed_code")
    states = {
        (state["client_id"], state["integration"]): tuple(state[name] for name in shown) for state in left.kept.states
    }
    for client, told in messages.items():
        for integration, interest in (("crm", {"identity", "contact"}), ("mailing", {"contact"})):
            seq = max((data["seq"] for data in told if interest & data["changed"].keys()), default=None)
            expected = None if seq is None else (seq, seq, None, None, None)
            state = states.get((client, integration))
            require(state == expected, "everything wanted is delivered", f"{client} at {integration}: {state}")
    seen = [*left.before, left.kept.delivery_states]
    for earlier, later in pairwise(seen):
        for key, state in earlier.items():
            now = later.get(key, (0, 0))
            ahead = now[0] >= state[0] and now[1] >= state[1]
            require(ahead, "delivery state never goes back", f"{key}: {state}, then {now}")
    last: dict[tuple[str, str], tuple[int, str]] = {}
    numbers: dict[tuple[str, str], int] = defaultdict(int)
    for entry in left.kept.log:
        key, number = (entry["client_id"], entry["integration"]), entry["number"]
        seq, body_hash = entry["seq"], entry["body_hash"]
        numbers[key] += 1
        require(number == numbers[key], "each call is logged once", f"{key}: {number}")
        if entry["verdict"] == "delivered":
            before = last.get(key, (0, ""))
            require((seq, body_hash) != before, "nothing is sent twice", f"{key}: {seq}")
            require(seq >= before[0], "deliveries in order", f"{key}: {seq} after {before[0]}")
            last[key] = (seq, body_hash)
    require(left.kept.doorbells == 0, "no doorbell left over", f"{left.kept.doorbells}")

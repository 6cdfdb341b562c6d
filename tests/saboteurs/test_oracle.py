"""The oracle notices each kind of damage: every check of it fails on files that were tampered with accordingly."""

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from threading import Event, Thread

import pytest

from functions_app import Delivered, Runtime, Settings
from integrations import DeliveryResult
from tests.crash.flow_backend import Clock, open_backend
from tests.crash.flow_domain import START, flow_domain
from tests.crash.flow_round import FlowTarget, Round, Zygote
from tests.crash.kept import in_files
from tests.crash.left import CheckError, Left
from tests.crash.oracle import check
from tests.saboteurs.sabotage import Unclaimed
from tests.support.rest_target import Fault

pytestmark = pytest.mark.crash

Tamper = Callable[[Left, Path], Left]


@pytest.fixture(scope="module")
def undamaged(zygote: Zygote, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Round]:
    """What an undisturbed worker leaves."""
    with Round(tmp_path_factory.mktemp("undamaged") / "round", zygote, 0) as undisturbed:
        undisturbed.finish()
        yield undisturbed


def sql(file: str, *statements: str) -> Tamper:
    """Damage done to a file, against which its triggers are no help."""

    def tamper(left: Left, directory: Path) -> Left:
        with closing(sqlite3.connect(directory / file, isolation_level=None)) as connection:
            for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
                connection.execute(f"DROP TRIGGER {name}")
            for statement in statements:
                assert connection.execute(statement).rowcount != 0, f"nothing to damage: {statement}"
        return left._replace(kept=in_files(directory))

    return tamper


LAST = "(SELECT max(position) FROM events WHERE client_id = 'ada')"
HEARD = "subscription = 'outside' AND session_id = 'ada'"
DAMAGE: list[tuple[str, Tamper]] = [
    ("versions without gaps", sql("events.db", "DELETE FROM events WHERE client_id = 'ada' AND version = 2")),
    (
        "each event once",
        sql(
            "events.db",
            "DROP INDEX events_by_id",
            f"UPDATE events SET event_id = 'feed:ada-1' WHERE position = {LAST}",
            "UPDATE events SET event_id = 'feed:ada-1' WHERE client_id = 'ada' AND version = 1",
        ),
    ),
    (
        "acknowledged events stay",
        sql("events.db", "UPDATE events SET event_id = event_id || 'x' WHERE event_id = 'feed:ada-0:1'"),
    ),
    ("nothing sent is missing", lambda left, _: left._replace(sent={**left.sent, "feed:never": ("ada", "", {})})),
    ("events as sent", sql("events.db", """UPDATE events SET data = '{"value":"other"}' WHERE position = 1""")),
    ("rejections kept", sql("events.db", "DELETE FROM rejections WHERE number = 1")),
    ("each client has a record", sql("projections.db", "DELETE FROM records WHERE client_id = 'ada'")),
    (
        "record reached its events",
        sql("projections.db", "UPDATE records SET body = json_set(body, '$.version', 1) WHERE client_id = 'ada'"),
    ),
    (
        "record continues its events",
        sql("projections.db", "UPDATE records SET body = json_set(body, '$.event_hash', '') WHERE client_id = 'ada'"),
    ),
    (
        "record is the fold",
        sql(
            "projections.db",
            "UPDATE records SET body = json_set(body, '$.values.identity.name', '') WHERE client_id = 'ada'",
        ),
    ),
    (
        "parked where it fails",
        sql("projections.db", "UPDATE records SET body = json_set(body, '$.parked.waiting_for', 0) WHERE parked"),
    ),
    ("one audit entry per event", sql("projections.db", "DELETE FROM audit WHERE client_id = 'ada' AND version = 2")),
    (
        "audit replays to the record",
        sql(
            "projections.db",
            "UPDATE audit SET body = json_set(body, '$.changes[0].new', '') WHERE client_id = 'ada' AND version = 1",
        ),
    ),
    (
        "audit tells the old value",
        sql(
            "projections.db",
            "UPDATE audit SET body = json_set(body, '$.changes[0].old', '') WHERE client_id = 'ada' AND version = 1",
        ),
    ),
    (
        "outbox is empty",
        sql("projections.db", "INSERT INTO outbox VALUES ('clients', 'ada', 99, '', '{}')"),
    ),
    (
        "each announcement heard",
        sql(
            "deliveries.db", f"DELETE FROM messages WHERE position = (SELECT max(position) FROM messages WHERE {HEARD})"
        ),
    ),
    (
        "last announcement is the record",
        sql(
            "deliveries.db",
            f"""UPDATE messages SET body = json_set(body, '$.data.changed.identity', json('{{"name":""}}'))
            WHERE position = (SELECT max(position) FROM messages WHERE {HEARD})""",
        ),
    ),
    ("one call at a time", lambda left, _: left._replace(overlaps=["PUT /subscribers/ada"])),
    ("each effect once", lambda left, _: left._replace(people={**left.people, "99": {"number": "ada"}})),
    ("the CRM has the latest", lambda left, _: left._replace(people=dict(list(left.people.items())[1:]))),
    ("the mailing system has the latest", lambda left, _: left._replace(subscribers={})),
    (
        "everything wanted is delivered",
        sql("deliveries.db", "UPDATE deliveries SET delivered = delivered - 1 WHERE client_id = 'ada'"),
    ),
    (
        "delivery state never goes back",
        lambda left, _: left._replace(before=[{("ada", "crm"): (99, 98)}, *left.before]),
    ),
    ("each call is logged once", sql("deliveries.db", "DELETE FROM delivery_log WHERE number = 1")),
    (
        "nothing is sent twice",
        sql("deliveries.db", "UPDATE delivery_log SET seq = 1, body_hash = '', verdict = 'delivered'"),
    ),
    (
        "deliveries in order",
        sql("deliveries.db", "UPDATE delivery_log SET seq = 99 WHERE number = 1 AND verdict = 'delivered'"),
    ),
    (
        "no doorbell left over",
        sql(
            "deliveries.db",
            "INSERT INTO messages (subscription, message_id, session_id, properties, body) "
            "VALUES ('crm', '1', 'ada', '{}', '{}')",
        ),
    ),
]


def test_an_undamaged_round_passes(undamaged: Round) -> None:
    """Nothing is found where nothing is wrong."""
    check(undamaged.left())


@pytest.mark.parametrize(("name", "tamper"), DAMAGE, ids=[name for name, _ in DAMAGE])
def test_damage_is_noticed(name: str, tamper: Tamper, undamaged: Round, tmp_path: Path) -> None:
    """Each check finds the damage that it is there for."""
    copy = tmp_path / "data"
    shutil.copytree(undamaged.directory / "data", copy)
    with pytest.raises(CheckError) as found:
        check(tamper(undamaged.left(), copy))
    assert found.value.check == name, str(found.value)


@pytest.mark.parametrize("guarded", [True, False])
def test_calls_at_the_same_time_are_noticed(guarded: bool, tmp_path: Path) -> None:  # noqa: FBT001 - a pytest parameter
    """A rival that takes no notice of a claim calls while the call that was claimed is under way; others leave."""
    clock, release = Clock(START), Event()
    backend = open_backend(tmp_path, clock)
    with FlowTarget() as target:
        domain = flow_domain(target.url, 0)
        runtime = Runtime(domain, Settings({}), backend, clock=clock)
        seen = backend if guarded else backend._replace(deliveries=Unclaimed(backend.deliveries))
        rival = Runtime(domain, Settings({}), seen, clock=clock)
        change = {"key": "1", "client": "ada", "facts": [{"kind": "mailed", "value": "a", "at": START.isoformat()}]}
        runtime.intake.accept(domain.source("feed"), Delivered(change))
        runtime.follower.sweep()
        target.script(Fault(hold_answer=release))
        caller = Thread(target=runtime.deliverer.deliver, args=("ada", "mailing"))
        caller.start()
        target.wait_for_request()
        result = rival.deliverer.deliver("ada", "mailing")
        release.set()
        caller.join()
    assert (result is DeliveryResult.CLAIMED) is guarded
    assert target.overlaps == ([] if guarded else ["PUT /subscribers/ada"])

"""Timer functions over the local host: pulling with a stored cursor, rejections, replay, and the two sweeps."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import requests

from eventstore import CheckpointStore, RejectionNotFoundError, StoreUnavailableError
from functions_app import Delivered, Domain, InputRefusedError, Runtime
from functions_app.sample import domain as sample
from functions_app.sample.sources import RegistryRow
from tests.support.flow import MASTER, Flow, listening, open_flow, serving
from tests.support.registry import Registry, row

CANARY = "Canary7"
TIMER = "registry_scheduled_event"


class LosesPower:
    """A checkpoint store whose machine stops at the next save."""

    def __init__(self, store: CheckpointStore) -> None:
        self._store, self.stopped = store, False

    def load(self, name: str) -> str | None:
        return self._store.load(name)

    def save(self, name: str, cursor: str) -> None:
        if not self.stopped:
            self.stopped = True
            raise StoreUnavailableError("the power went off")
        self._store.save(name, cursor)

    def create(self, name: str, cursor: str) -> str:
        return self._store.create(name, cursor)


@pytest.fixture
def registry() -> Iterator[Registry]:
    with Registry() as running:
        yield running


def opened(directory: Path, registry: Registry, domain: Domain = sample, **parts: Any) -> Runtime:
    return open_flow(directory, domain, {"REGISTRY_URL": registry.url}, **parts)


@pytest.fixture
def flow(tmp_path: Path, registry: Registry) -> Iterator[Flow]:
    with serving(opened(tmp_path, registry)) as running:
        yield running


def clients(flow: Flow) -> list[str]:
    return [event.client_id for event in flow.events()]


def test_a_timer_takes_everything_page_by_page(flow: Flow, registry: Registry) -> None:
    """Each portion's cursor is asked for next; the last one is stored."""
    registry.rows += [row(number) for number in range(1, 6)]
    assert flow.fire(TIMER).status_code == 202
    assert clients(flow) == ["1", "2", "3", "4", "5"]
    assert registry.asked == ["", "2", "4", "5"]
    assert flow.runtime.backend.pulled.load("pull:registry") == "5"


def test_the_next_run_asks_for_what_is_new(flow: Flow, registry: Registry) -> None:
    """It starts at the stored cursor and takes only what came since."""
    registry.rows += [row(1), row(2)]
    flow.fire(TIMER)
    registry.rows.append(row(3))
    registry.asked.clear()
    flow.fire(TIMER)
    assert registry.asked == ["2", "3"]
    assert clients(flow) == ["1", "2", "3"]


def test_a_restart_continues_at_the_cursor(tmp_path: Path, registry: Registry) -> None:
    """The cursor is in the data directory, not in the process."""
    registry.rows += [row(1), row(2), row(3)]
    for _ in range(2):
        with serving(opened(tmp_path, registry)) as flow:
            flow.fire(TIMER)
    assert registry.asked == ["", "2", "3", "3"]


def test_a_crash_between_events_and_cursor_repeats_nothing(tmp_path: Path, registry: Registry) -> None:
    """The portion comes again, and what is stored or kept already is recognised."""
    registry.rows += [row(1), row(2, postcode="no postcode")]
    runtime = opened(tmp_path, registry)
    runtime.backend = runtime.backend._replace(pulled=LosesPower(runtime.backend.pulled))
    with serving(runtime) as flow:
        assert flow.fire(TIMER).status_code == 500
        assert clients(flow) == ["1"]
        assert len(runtime.backend.rejections.open()) == 1
        assert runtime.backend.pulled.load("pull:registry") is None
        assert flow.fire(TIMER).status_code == 202
        assert clients(flow) == ["1"]
        assert len(runtime.backend.rejections.open()) == 1
        assert runtime.backend.pulled.load("pull:registry") == "2"


def test_a_registry_that_fails_in_the_middle_loses_nothing(flow: Flow, registry: Registry) -> None:
    """What came before is stored with its cursor; the next run goes on from there."""
    registry.rows += [row(number) for number in range(1, 5)]
    registry.faults += [200, 500]
    assert flow.fire(TIMER).status_code == 500
    assert clients(flow) == ["1", "2"]
    flow.fire(TIMER)
    assert clients(flow) == ["1", "2", "3", "4"]
    assert registry.asked == ["", "2", "2", "4"]


def test_a_bad_item_is_kept_and_the_rest_goes_in(flow: Flow, registry: Registry) -> None:
    """Defect 22: one item that fails does not drop the rest of a pulled batch."""
    registry.rows += [row(1), row(2, postcode=CANARY), CANARY, row(3), {"rec_id": "rec-4-org"}, row(5, changed_at=None)]
    with listening() as heard:
        assert flow.fire(TIMER).status_code == 202
    assert clients(flow) == ["1", "3"]
    kept = flow.runtime.backend.rejections.open()
    assert [(each.source, each.code) for each in kept] == [
        ("registry", "invalid_payload"),
        ("registry", "invalid_payload"),
        ("registry", "event_key_missing"),
        ("registry", "event_key_missing"),
    ]
    assert kept[0].problems[0].startswith("postcode: ")
    assert CANARY.encode() in kept[0].payload
    assert CANARY not in str([each.problems for each in kept])
    assert CANARY not in heard.text
    assert "2 accepted, 4 rejected" in heard.text


class LenientRow(RegistryRow):
    """The registry's row after somebody decided that postcodes may be anything."""

    postcode: str | None = None


def lenient() -> Domain:
    return replace(sample, pulls=[replace(sample.pulls[0], payload=LenientRow)])


def test_a_rejection_can_be_replayed_once_the_code_accepts_it(tmp_path: Path, registry: Registry) -> None:
    """Replay with the same code is refused and keeps it; with corrected code it becomes events and is gone."""
    registry.rows += [row(2, postcode="SW1A 1AA")]
    with serving(opened(tmp_path, registry)) as flow:
        flow.fire(TIMER)
        [rejection] = flow.runtime.backend.rejections.open()
        with pytest.raises(InputRefusedError, match="postcode"):
            flow.runtime.replay(rejection.number)
        assert flow.runtime.backend.rejections.get(rejection.number) == rejection
    corrected = opened(tmp_path, registry, lenient())
    accepted = corrected.replay(rejection.number)
    assert [each.event.event_id for each in accepted] == [
        "registry:rec~-2~-org-2026-05-01T10:00:00Z:1",
        "registry:rec~-2~-org-2026-05-01T10:00:00Z:2",
    ]
    assert corrected.backend.rejections.open() == []
    with pytest.raises(RejectionNotFoundError):
        corrected.replay(rejection.number)


def test_a_replay_that_crashed_before_it_was_noted_can_be_repeated(tmp_path: Path, registry: Registry) -> None:
    """The events are there already, so the second replay adds none and resolves the rejection."""
    registry.rows += [row(2, postcode="SW1A 1AA")]
    opened(tmp_path, registry).pull(sample.pulls[0])
    corrected = opened(tmp_path, registry, lenient())
    [rejection] = corrected.backend.rejections.open()
    corrected.intake.accept(corrected.domain.source("registry"), Delivered(registry.rows[0]))
    assert [each.duplicate for each in corrected.replay(rejection.number)] == [True, True]
    assert corrected.backend.rejections.open() == []


def test_a_setting_that_is_missing_fails_the_timer_only(tmp_path: Path) -> None:
    """The pull says which setting it wants; receivers and queries work without it."""
    with serving(open_flow(tmp_path)) as flow, listening() as heard:
        assert flow.fire(TIMER).status_code == 500
        assert "MissingSettingError" in heard.text
        assert flow.get("lag").status_code == 200


def test_the_sweep_projects_what_no_doorbell_announced(flow: Flow, registry: Registry) -> None:
    """Without any loop running, the timer alone brings records up to date."""
    registry.rows += [row(1), row(2)]
    flow.fire(TIMER)
    assert flow.get("clients/1").status_code == 404
    assert flow.fire("sweep").status_code == 202
    assert flow.get("clients/1").json()["record"]["identity"]["given_name"] == "given1"
    assert flow.get("lag").json()["events"] == 0


def test_every_function_has_its_name(flow: Flow) -> None:
    """Names follow the source, as the host and its logs show them."""
    url = f"{flow.url.removesuffix('/api')}/admin/host/status"
    status = requests.get(url, headers={"x-functions-key": MASTER}, timeout=10).json()
    names = {each["name"]: each["trigger"] for each in status["functions"]}
    http = ["crm_receive_event", "shop_receive_event"]
    http += ["record", "record_as_of", "audit", "blame", "deliveries", "lag", "health"]
    assert {name: names[name] for name in http} == dict.fromkeys(http, "httpTrigger")
    timers = ["registry_scheduled_event", "sweep", "deliver_due"]
    assert {name: names[name] for name in timers} == dict.fromkeys(timers, "timerTrigger")

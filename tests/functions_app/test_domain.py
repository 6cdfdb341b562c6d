"""The domain: what a team declares, and what is refused at start instead of failing later."""

from dataclasses import replace
from typing import Any

import pytest
from pydantic import BaseModel

from eventstore import Event, EventRegistry, RegistrationError
from functions_app import (
    Domain,
    DomainError,
    FromSettings,
    HeaderKey,
    HmacSignature,
    InputRefusedError,
    MissingSettingError,
    NoKey,
    PayloadKey,
    Pull,
    Receiver,
    Settings,
    Source,
    UnknownSourceError,
    load_domain,
)
from functions_app.sample import domain as sample
from integrations import Body, Delivery, Integration, Outcome, Verdict
from tests.support import accounts


class Payload(BaseModel):
    """Anything."""


def _source(name: str = "crm", **more: Any) -> Source:
    return Source(name=name, payload=Payload, process=lambda _: [], key=NoKey(), **more)


@pytest.mark.parametrize("name", ["", "Crm", "1crm", "crm-2", "c" * 33, "crm.x", "ñ"])
def test_a_source_name_is_part_of_function_names(name: str) -> None:
    """Lower-case letters, digits and underscores, a letter first."""
    with pytest.raises(DomainError, match="Source name"):
        _source(name)


def test_a_source_cannot_take_the_name_of_this_software() -> None:
    """Event ids of `flow` are annulments and the like, which nobody may send."""
    with pytest.raises(DomainError, match="flow"):
        _source("flow")


def test_a_signed_receiver_takes_its_key_from_the_signed_body() -> None:
    """A header is not covered by the signature, so a forger could choose it."""
    with pytest.raises(DomainError, match="not signed"):
        Receiver(
            name="shop",
            payload=Payload,
            process=lambda _: [],
            key=HeaderKey("X-Id"),
            signature=lambda settings: HmacSignature(settings.secret("S")),
        )


def test_a_payload_key_needs_a_field() -> None:
    """Without one it would be the same for all deliveries."""
    with pytest.raises(DomainError, match="field"):
        PayloadKey()


@pytest.mark.parametrize(
    ("fields", "payload", "key"),
    [
        (("id",), {"id": "a"}, "a"),
        (("id",), {"id": 7}, "7"),
        (("id", "at"), {"id": 7, "at": "2026-01-01"}, "7-2026-01-01"),
        (("meta.id",), {"meta": {"id": "x"}}, "x"),
        (("a", "b"), {"a": "1-2", "b": "3"}, "1~-2-3"),
        (("a", "b"), {"a": "1", "b": "2-3"}, "1-2-3"),
        (("a", "b"), {"a": "1~", "b": "3"}, "1~~-3"),
    ],
)
def test_a_payload_key(fields: tuple[str, ...], payload: Any, key: str) -> None:
    """Texts and integers, nested by dots; different fields never give one key."""
    assert PayloadKey(*fields).of(payload, {}) == key


@pytest.mark.parametrize("value", [None, "", True, 1.5, ["a"], {"b": 1}])
def test_a_payload_key_that_is_none(value: Any) -> None:
    """The field is named, its value is not."""
    with pytest.raises(InputRefusedError) as caught:
        PayloadKey("id").of({"id": value}, {})
    assert caught.value.code == "event_key_missing"
    assert [path for path, _ in caught.value.problems] == ["id"]


@pytest.mark.parametrize("payload", [None, 7, [], "text", {}, {"meta": 7}, {"meta": [{"id": "x"}]}])
def test_a_payload_key_in_a_payload_of_another_shape(payload: Any) -> None:
    """It is missing, whatever the payload is."""
    with pytest.raises(InputRefusedError):
        PayloadKey("meta.id").of(payload, {})


def test_the_parts_of_a_domain_have_one_registry() -> None:
    """A projection of other events would never see what the sources tell."""
    with pytest.raises(DomainError, match="another registry"):
        Domain(events=EventRegistry(), projection=sample.projection)


def test_nothing_is_declared_twice() -> None:
    """Sources share a namespace, whether they post or are asked; so do integrations."""
    with pytest.raises(DomainError, match="source 'crm' is declared twice"):
        replace(sample, pulls=[replace(sample.pulls[0], name="crm")])
    with pytest.raises(DomainError, match="integration 'crm' is declared twice"):
        replace(sample, integrations=[sample.integrations[0]] * 2)


def test_an_integration_cares_about_what_there_is() -> None:
    """A sub-schema that does not exist would never announce anything."""
    with pytest.raises(DomainError, match="cares about 'hobbies'"):
        replace(sample, integrations=[replace(sample.integrations[0], cares_about=("identity", "hobbies"))])


def test_a_missing_upcaster_is_noticed_at_start() -> None:
    """A stored event of that version could not be read."""
    events = EventRegistry()

    @events.register("client.told", version=2)
    class Told(Event):
        what: str

    with pytest.raises(RegistrationError, match="upcaster from version 1"):
        Domain(events=events, projection=sample.projection)


def test_a_source_is_found_by_its_name() -> None:
    """An unknown name is answered with those there are."""
    assert sample.source("registry") is sample.pulls[0]
    with pytest.raises(UnknownSourceError, match="crm, shop, registry"):
        sample.source("fax")


def test_a_domain_is_loaded_by_its_address() -> None:
    """As the setting CLIENT_FLOW_DOMAIN gives it."""
    assert load_domain("functions_app.sample:domain") is sample
    assert load_domain("tests.support.accounts:domain") is accounts.domain


@pytest.mark.parametrize(
    "address", ["", "nowhere:domain", "functions_app.sample", "functions_app.sample:", "functions_app.sample:nothing"]
)
def test_an_address_that_leads_nowhere(address: str) -> None:
    """The error repeats the setting, which is no secret."""
    with pytest.raises(DomainError, match="CLIENT_FLOW_DOMAIN"):
        load_domain(address)


def test_an_address_of_something_else() -> None:
    """What is there is named by its class."""
    with pytest.raises(DomainError, match="not Projection"):
        load_domain("functions_app.sample.person:people")


# --- settings --------------------------------------------------------------------------------------------------------


def test_settings_have_defaults() -> None:
    """Without any setting it is the sample in the working directory."""
    settings = Settings({})
    assert settings.domain == "functions_app.sample:domain"
    assert str(settings.data) == ".client-flow"
    assert settings.key is None
    chosen = Settings({"CLIENT_FLOW_DOMAIN": "a:b", "CLIENT_FLOW_DATA": "/data", "CLIENT_FLOW_KEY": "k"})
    assert (chosen.domain, str(chosen.data)) == ("a:b", "/data")
    assert chosen.key is not None
    assert chosen.key.get_secret_value() == "k"


@pytest.mark.parametrize("environment", [{}, {"CRM_URL": ""}])
def test_a_setting_that_is_missing_is_named(environment: dict[str, str]) -> None:
    """An empty one is as good as none."""
    with pytest.raises(MissingSettingError, match="CRM_URL") as caught:
        Settings(environment).text("CRM_URL")
    assert caught.value.name == "CRM_URL"


def test_a_secret_does_not_show() -> None:
    """Neither in its text nor in its representation."""
    secret = Settings({"S": "hidden"}).secret("S")
    assert "hidden" not in f"{secret} {secret!r}"


class Echo:
    """A strategy that says which address it was made for."""

    def __init__(self, address: str) -> None:
        self.address = address

    def send(self, body: Body, delivery: Delivery) -> Outcome:
        return Outcome(verdict=Verdict.DELIVERED, code="ok", answer=self.address)

    def retract(self, delivery: Delivery) -> Outcome:
        return Outcome(verdict=Verdict.DELIVERED, code="gone", answer=self.address)


def test_a_strategy_from_settings_is_made_once() -> None:
    """When it is first used, with the settings of the application."""
    made: list[str] = []

    def make(settings: Settings) -> Echo:
        made.append(settings.text("ADDRESS"))
        return Echo(made[-1])

    integration = Integration(
        name="echo", cares_about=("identity",), mapping=lambda _: None, strategy=FromSettings(make)
    )
    domain = replace(sample, integrations=[integration])
    [bound] = domain.integrations_with(Settings({"ADDRESS": "here"}))
    assert made == []
    assert bound.strategy.send(None, None).answer == "here"  # type: ignore[arg-type]  # not looked at
    assert bound.strategy.retract(None).answer == "here"  # type: ignore[arg-type]  # not looked at
    assert made == ["here"]


def test_a_strategy_whose_setting_is_missing_pauses_its_integration() -> None:
    """Nothing is lost, and once the setting is there it works without a restart of anything but the process."""
    environment: dict[str, str] = {}
    strategy = FromSettings(lambda settings: Echo(settings.text("ADDRESS")), Settings(environment))
    for outcome in (strategy.send(None, None), strategy.retract(None)):  # type: ignore[arg-type]  # not looked at
        assert (outcome.verdict, outcome.code) == (Verdict.PAUSE, "setting_missing")
        assert "ADDRESS" in outcome.answer
    environment["ADDRESS"] = "there"
    assert strategy.send(None, None).answer == "there"  # type: ignore[arg-type]  # not looked at


def test_a_pull_is_a_source_with_a_schedule() -> None:
    """And shares the checks of sources."""
    with pytest.raises(DomainError):
        Pull(
            name="No",
            payload=Payload,
            process=lambda _: [],
            key=NoKey(),
            schedule="0 * * * * *",
            get_data=lambda *_: iter(()),
        )

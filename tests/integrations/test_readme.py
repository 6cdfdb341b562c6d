"""The README's example works as printed, and the package exports what it says."""

import re
from pathlib import Path

import pytest

import integrations
from eventstore import SqliteDatabase
from integrations import DeliveryResult
from tests.integrations.world import Clock, World
from tests.support.rest_target import RestTarget

README = Path(integrations.__file__).with_name("README.md")


def test_the_example_of_the_readme_delivers(
    database: SqliteDatabase, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Copied from the README, the integration creates, updates and retracts at a real target."""
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    with RestTarget(clients={"client-flow": "s3cret"}) as target:
        monkeypatch.setenv("CRM_URL", target.url)
        monkeypatch.setenv("CRM_SECRET", "s3cret")
        names: dict[str, integrations.Integration] = {}
        exec(compile(code, str(README), "exec"), names)
        world = World(database, clock)
        deliverer = world.another_deliverer(integrations=[names["crm"]])
        for email in ("a@x", "b@x", None):
            world.announce("c1", email)
            assert deliverer.deliver("c1", "crm") is DeliveryResult.DELIVERED
        assert [f"{request.method} {request.path}" for request in target.requests] == [
            "POST /contacts",
            "PUT /contacts/1",
            "DELETE /contacts/1",
        ]


def test_every_public_name_can_be_imported() -> None:
    """What `__all__` lists is there, adapters included; anything else is an error."""
    assert all(getattr(integrations, name) is not None for name in integrations.__all__)
    with pytest.raises(AttributeError, match="nothing"):
        _ = integrations.nothing

"""Where the client for managing a namespace goes, before it goes anywhere."""

import pytest

from integrations import IntegrationDefinitionError, is_emulator, open_administration

KEY = "SharedAccessKeyName=Root;SharedAccessKey=very-secret"


@pytest.mark.parametrize(
    ("endpoint", "where"),
    [
        ("sb://localhost", "localhost:5300"),
        ("sb://localhost/", "localhost:5300"),
        ("sb://localhost:5672", "localhost:5300"),
        ("sb://127.0.0.1:40123", "127.0.0.1:40123"),
    ],
)
def test_the_emulator_is_managed_on_a_port_of_its_own(endpoint: str, where: str) -> None:
    """On 5300 beside the port for messages; a port that is neither serves both."""
    connection = f"Endpoint={endpoint};{KEY};UseDevelopmentEmulator=true;"
    assert is_emulator(connection)
    with open_administration(connection) as client:
        assert client.fully_qualified_namespace.rstrip("/") == where


def test_a_namespace_is_managed_where_it_is() -> None:
    """Its host alone, with TLS."""
    connection = f"Endpoint=sb://name.servicebus.windows.net/;{KEY}"
    assert not is_emulator(connection)
    with open_administration(connection) as client:
        assert client.fully_qualified_namespace.rstrip("/") == "name.servicebus.windows.net"


def test_a_connection_string_that_is_none() -> None:
    """It is refused without the key in the message."""
    with pytest.raises(IntegrationDefinitionError, match="Endpoint=") as caught:
        open_administration("Endpoint=sb://here;SharedAccessKey=very-secret")
    assert "very-secret" not in repr((caught.value, caught.value.__cause__))

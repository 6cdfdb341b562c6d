"""What clients and events are called where their ids must not stand."""

import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pydantic import SecretStr

from functions_app import Settings
from functions_app.references import References, random_key, references_for

KEY = SecretStr("key-of-the-references")


def test_a_reference_is_the_same_for_the_same_key() -> None:
    """In every process; other keys, clients and kinds give others, and none shows the id."""
    references = References(KEY)
    reference = references.client("ES.4711")
    assert reference == References(KEY).client("ES.4711")
    assert len(reference) == 16
    assert int(reference, 16) >= 0
    others = {
        references.client("ES.4712"),
        references.event("ES.4711"),
        References(random_key()).client("ES.4711"),
        reference,
    }
    assert len(others) == 4


def test_the_set_key_is_used(tmp_path: Path) -> None:
    """It is what makes the processes of an installation agree; nothing is written for it."""
    settings = Settings({"CLIENT_FLOW_REF_KEY": KEY.get_secret_value(), "CLIENT_FLOW_DATA": str(tmp_path)})
    assert references_for(settings).client("1") == References(KEY).client("1")
    assert list(tmp_path.iterdir()) == []


def test_a_data_directory_keeps_a_key_of_its_own(tmp_path: Path) -> None:
    """All that open it at once agree on one, which its owner alone can read."""
    settings = Settings({"CLIENT_FLOW_DATA": str(tmp_path)})
    with ThreadPoolExecutor(8) as pool:
        opened = list(pool.map(lambda _: references_for(settings).client("1"), range(32)))
    assert len(set(opened)) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["references.key"]
    assert (tmp_path / "references.key").stat().st_mode & 0o777 == 0o600
    (tmp_path / "other").mkdir()
    other = references_for(Settings({"CLIENT_FLOW_DATA": str(tmp_path / "other")}))
    assert other.client("1") != opened[0]


def test_on_azure_a_missing_key_is_told(caplog: pytest.LogCaptureFixture) -> None:
    """References that differ from process to process are of little use, so the log says what to set."""
    settings = Settings({"COSMOS_ENDPOINT": "https://account.example"})
    with caplog.at_level(logging.WARNING):
        first, second = references_for(settings), references_for(settings)
    assert first.client("1") != second.client("1")
    assert "CLIENT_FLOW_REF_KEY" in caplog.text

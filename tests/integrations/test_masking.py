"""What the delivery log shows of bodies and answers."""

import pytest

from integrations.masking import LOG_LIMIT, masked

CANARY = "canary-9f2"


@pytest.mark.parametrize(
    "text",
    [
        f'{{"password": "{CANARY}"}}',
        f'{{"a": [{{"accessToken": "{CANARY}"}}]}}',
        f'{{"client_secret": {{"deep": "{CANARY}"}}}}',
        f'{{"API-Key": "{CANARY}", "x": 1}}',
        f'{{"cut": 1, "token": "{CANARY}',
        f'{{"cut": 1, "token" : "a\\"{CANARY}", ',
        f"error: token={CANARY}&x=1",
        f"password: {CANARY}",
        f"Authorization: Bearer {CANARY}",
        f"X-Api-Key: '{CANARY}'",
    ],
)
def test_secrets_by_name_are_masked(text: str) -> None:
    """Values of fields named like secrets do not show, in JSON, in JSON that was cut, and in plain text."""
    assert CANARY not in masked(text)
    assert "***" in masked(text)


def test_known_secrets_are_masked_anywhere() -> None:
    """A target that repeats the caller's key in its message does not bring it into the log."""
    assert masked(f"bad key {CANARY}!", [CANARY]) == "bad key ***!"
    assert CANARY not in masked(f'{{"message": "{CANARY}"}}', [CANARY])
    assert CANARY not in masked(f'{{"message": "{CANARY}\\"x"}}', [f'{CANARY}"x'])


def test_an_empty_secret_masks_nothing() -> None:
    """An empty secret is no secret, and does not tear the text apart."""
    assert masked("all fine", [""]) == "all fine"


def test_other_fields_show() -> None:
    """What was sent can be read."""
    assert masked('{"email": "a@x", "n": [1, null]}') == '{"email":"a@x","n":[1,null]}'
    assert masked("Not found") == "Not found"
    assert masked("") == ""


def test_long_texts_are_cut() -> None:
    """The log keeps the beginning and says how long it was."""
    shown = masked("x" * 5000)
    assert shown.startswith("x" * LOG_LIMIT + "...")
    assert "5000" in shown


def test_a_secret_at_the_cut_does_not_show() -> None:
    """Masking comes before cutting."""
    text = "x" * (LOG_LIMIT - 5) + CANARY
    assert "canar" not in masked(text, [CANARY])

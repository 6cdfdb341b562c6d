"""What the end-to-end tests share: the sample's two targets as real servers, and the settings that lead to them."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.support.cosmos import database
from tests.support.flow import KEY, SHOP_SECRET
from tests.support.rest_target import RestTarget

__all__ = ["database"]

CRM_SECRET = "secret-of-the-crm"
MAILING_KEY = "secret-of-the-mailing"


@pytest.fixture
def crm() -> Iterator[RestTarget]:
    """Wants an access token, and gives each person an id of its own."""
    with RestTarget(clients={"client-flow": CRM_SECRET}) as target:
        yield target


@pytest.fixture
def mailing() -> Iterator[RestTarget]:
    """Wants a key, and goes by our client id."""
    with RestTarget(api_key=MAILING_KEY) as target:
        yield target


@pytest.fixture
def environment(crm: RestTarget, mailing: RestTarget) -> Mapping[str, str]:
    """The settings of an application that delivers to both."""
    return {
        "CRM_URL": crm.url,
        "CRM_CLIENT_ID": "client-flow",
        "CRM_CLIENT_SECRET": CRM_SECRET,
        "MAILING_URL": mailing.url,
        "MAILING_KEY": MAILING_KEY,
        "SHOP_SECRET": SHOP_SECRET,
        "CLIENT_FLOW_KEY": KEY,
    }


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """The data directory."""
    return tmp_path / "data"

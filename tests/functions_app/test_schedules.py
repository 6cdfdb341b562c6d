from datetime import UTC, datetime, timedelta, timezone

import pytest

from functions_app.errors import MissingSettingError
from functions_app.local_errors import InvalidScheduleError
from functions_app.schedules import Schedule, resolve_settings


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("expression", "moment", "due"),
    [
        ("* * * * * *", "2026-11-24 05:00:00", "2026-11-24 05:00:01"),
        ("* * * * * *", "2026-11-24 05:00:00.5", "2026-11-24 05:00:01"),
        ("*/10 * * * * *", "2026-11-24 05:00:00", "2026-11-24 05:00:10"),
        ("*/10 * * * * *", "2026-11-24 05:00:59", "2026-11-24 05:01:00"),
        ("5,35 * * * * *", "2026-11-24 05:00:06", "2026-11-24 05:00:35"),
        ("0 */5 * * * *", "2026-11-24 05:04:59", "2026-11-24 05:05:00"),
        ("0 0 * * * *", "2026-11-24 05:00:00", "2026-11-24 06:00:00"),
        ("0 0 9-17 * * *", "2026-11-24 17:00:00", "2026-11-25 09:00:00"),
        ("0 30 9 * * 1-5", "2026-11-27 09:30:00", "2026-11-30 09:30:00"),
        ("0 30 9 * Jan Mon", "2026-11-24 05:00:00", "2027-01-04 09:30:00"),
        ("0 0 0 * * 0", "2026-11-24 05:00:00", "2026-11-29 00:00:00"),
        ("0 0 0 29 2 *", "2026-11-24 05:00:00", "2028-02-29 00:00:00"),
        ("30 59 23 31 12 *", "2026-12-31 23:59:30", "2027-12-31 23:59:30"),
        ("  0  */5 * *  * * ", "2026-11-24 05:04:59", "2026-11-24 05:05:00"),
    ],
)
def test_the_next_moment_is_the_first_after(expression: str, moment: str, due: str) -> None:
    """Seconds first, strictly later than the moment asked about."""
    assert Schedule(expression).next_after(utc(moment)) == utc(due)


def test_day_and_day_of_the_week_must_both_match() -> None:
    """NCRONTAB takes the days that are both; Unix cron would take either, and run on 30 November."""
    assert Schedule("0 0 0 1 * 1").next_after(utc("2026-11-24")) == utc("2027-02-01")


def test_schedules_are_in_utc() -> None:
    """A moment of another time zone is the same moment."""
    bogota = timezone(timedelta(hours=-5))
    due = Schedule("0 0 12 * * *").next_after(datetime(2026, 11, 24, 6, 30, tzinfo=bogota))
    assert due == utc("2026-11-24 12:00:00")
    assert due.utcoffset() == timedelta(0)


@pytest.mark.parametrize(
    "expression",
    [
        "",
        "* * * * *",
        "* * * * * * *",
        "60 * * * * *",
        "* 60 * * * *",
        "* * 24 * * *",
        "* * * 0 * *",
        "* * * 32 * *",
        "* * * * 13 *",
        "* * * * * 7",
        "*/0 * * * * *",
        "-1 * * * * *",
        "a * * * * *",
        "1,,2 * * * * *",
        "0 0 0 L * *",
        "0 0 0 * * L5",
        "0 0 0 ? * *",
        "R * * * * *",
        "@daily",
        "00:05:00",
        "0 0 0 30 2 *",
        "%NAME%",
    ],
)
def test_what_is_no_ncrontab_expression_is_refused(expression: str) -> None:
    """Also what croniter would read, but Azure would not, and what never comes."""
    with pytest.raises(InvalidScheduleError) as refused:
        Schedule(expression)
    assert refused.value.expression == expression


def test_settings_stand_in_for_their_names() -> None:
    """A whole schedule or a part of one; text without names stays as it is."""
    settings = {"SWEEP": "0 */5 * * * *", "HOUR": "7"}
    assert resolve_settings("%SWEEP%", settings) == "0 */5 * * * *"
    assert resolve_settings("0 0 %HOUR% * * *", settings) == "0 0 7 * * *"
    assert resolve_settings("* * * * * *", {}) == "* * * * * *"


def test_a_setting_that_is_not_set_is_named() -> None:
    """Whoever starts the host learns which one."""
    with pytest.raises(MissingSettingError) as refused:
        resolve_settings("%SWEEP%", {})
    assert refused.value.name == "SWEEP"

"""When a timer is due: NCRONTAB expressions, in UTC.

Six fields: second, minute, hour, day, month, day of the week (0 is Sunday). A moment is due when all six match, also
when both the day and the day of the week are restricted; cron on Unix would take either (source: `CrontabSchedule` of
https://github.com/atifaziz/NCrontab, which Azure Functions uses).
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime

from croniter import croniter
from croniter.croniter import CroniterError

from .errors import MissingSettingError
from .local_errors import InvalidScheduleError

_SETTING = re.compile(r"%([^%\s]+)%")
_MONTH = r"\d{1,2}|jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec"
_WEEKDAY = r"[0-6]|sun|mon|tue|wed|thu|fri|sat"


def _field(value: str) -> str:
    item = rf"(?:\*|(?:{value})(?:-(?:{value}))?)(?:/\d+)?"
    return rf"{item}(?:,{item})*"


# croniter reads more than NCRONTAB has (L, R, #, @daily, a seventh field); what works here has to work on Azure.
_NCRONTAB = re.compile(
    r"\s+".join([_field(r"\d{1,2}")] * 4 + [_field(_MONTH), _field(_WEEKDAY)]), re.IGNORECASE | re.ASCII
)


def resolve_settings(text: str, settings: Mapping[str, str]) -> str:
    """The text with each `%NAME%` replaced by that setting.

    Raises:
        MissingSettingError: there is no such setting.
    """

    def value(found: re.Match[str]) -> str:
        name = found[1]
        if name not in settings:
            raise MissingSettingError(name)
        return settings[name]

    return _SETTING.sub(value, text)


class Schedule:
    """A parsed NCRONTAB expression.

    Args:
        expression: six fields.

    Raises:
        InvalidScheduleError: it is no NCRONTAB expression, or matches no moment at all.
    """

    def __init__(self, expression: str) -> None:
        self.expression = expression
        if _NCRONTAB.fullmatch(expression.strip()) is None:
            raise InvalidScheduleError(
                expression, "six fields were expected: second minute hour day month day-of-week, as in '0 */5 * * * *'"
            )
        try:
            self.next_after(datetime(2000, 1, 1, tzinfo=UTC))
        except CroniterError as error:
            raise InvalidScheduleError(expression, f"never due or out of range ({type(error).__name__})") from error

    def next_after(self, moment: datetime) -> datetime:
        """The first due moment later than this one, in UTC."""
        due = croniter(self.expression, moment.astimezone(UTC), second_at_beginning=True, day_or=False)
        following: datetime = due.get_next(datetime)
        return following

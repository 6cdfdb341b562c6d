"""Why a function app cannot be served on one machine; all of it is known before the first request.

LocalHostError
+-- InvalidRouteError         a route template or constraint the host cannot read
+-- InvalidScheduleError      a timer's schedule is no NCRONTAB expression
+-- InvalidSettingError       a setting's value is of no use
+-- UnsupportedFunctionError  a function asks for what this host does not give
"""

from .errors import FlowError


class LocalHostError(FlowError):
    """Base of what keeps the local host from serving an app."""


class InvalidRouteError(LocalHostError):
    """A route template that cannot be read.

    Attributes:
        template: the template.
    """

    def __init__(self, template: str, problem: str) -> None:
        self.template = template
        super().__init__(f"Route {template!r}: {problem}.")


class InvalidScheduleError(LocalHostError):
    """A schedule that is no NCRONTAB expression, or never comes.

    Attributes:
        expression: the schedule.
    """

    def __init__(self, expression: str, problem: str) -> None:
        self.expression = expression
        super().__init__(f"Schedule {expression!r}: {problem}.")


class InvalidSettingError(LocalHostError):
    """A setting has a value that cannot be used.

    Attributes:
        name: the setting.
    """

    def __init__(self, name: str, expected: str) -> None:
        self.name = name
        super().__init__(f"The setting {name} must be {expected}.")


class UnsupportedFunctionError(LocalHostError):
    """A function that this host cannot call.

    Attributes:
        function: its name.
    """

    def __init__(self, function: str, problem: str) -> None:
        self.function = function
        super().__init__(f"Function {function}: {problem}.")

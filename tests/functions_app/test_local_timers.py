import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import azure.functions as func
import pytest
from azure.functions.timer import TimerRequest

from functions_app.local_functions import LocalFunction, load_functions
from functions_app.local_timers import SystemClock, Timer
from functions_app.schedules import Schedule

START = datetime(2026, 11, 24, 5, 0, 0, tzinfo=UTC)


class JumpingClock:
    """A clock that goes straight to the moment waited for, a limited number of times; then it says stop."""

    def __init__(self, waits: int) -> None:
        self.time = START
        self.waited_for: list[datetime] = []
        self._left = waits

    def now(self) -> datetime:
        return self.time

    def wait_until(self, moment: datetime, stop: threading.Event) -> bool:
        if not self._left:
            return False
        self._left -= 1
        self.waited_for.append(moment)
        self.time = max(self.time, moment)
        return True

    def pass_time(self, seconds: float) -> None:
        self.time += timedelta(seconds=seconds)


def timer_function(handler: Callable[[func.TimerRequest], None]) -> LocalFunction:
    app = func.FunctionApp()

    def tick(timer: func.TimerRequest) -> None:
        handler(timer)

    app.timer_trigger(arg_name="timer", schedule="* * * * * *")(tick)
    return load_functions(app)[0]


def run(
    clock: JumpingClock,
    handler: Callable[[func.TimerRequest], None],
    *,
    schedule: str = "0 * * * * *",
    run_on_startup: bool = False,
) -> None:
    timer = Timer(timer_function(handler), Schedule(schedule), run_on_startup=run_on_startup, clock=clock)
    timer.run(threading.Event())


def test_a_timer_runs_at_each_due_moment() -> None:
    """Not at the start, then once per minute."""
    clock = JumpingClock(waits=3)
    runs: list[datetime] = []
    run(clock, lambda _: runs.append(clock.time))
    assert runs == [START + timedelta(minutes=n) for n in (1, 2, 3)]


def test_a_handler_gets_what_the_worker_would_give_it() -> None:
    """The class of azure.functions, with the runs before and after."""
    requests: list[func.TimerRequest] = []
    run(JumpingClock(waits=2), requests.append)
    first, second = requests
    assert isinstance(first, TimerRequest)
    assert isinstance(second, TimerRequest)
    assert not first.past_due
    assert first.schedule_status["Last"] is None
    assert second.schedule_status["Last"] == "2026-11-24T05:01:00+00:00"
    assert second.schedule_status["Next"] == "2026-11-24T05:03:00+00:00"


def test_run_on_startup_is_one_run_more() -> None:
    """At once, and then by the schedule; not past due."""
    clock = JumpingClock(waits=1)
    runs: list[tuple[datetime, bool]] = []
    run(clock, lambda timer: runs.append((clock.time, timer.past_due)), run_on_startup=True)
    assert runs == [(START, False), (START + timedelta(minutes=1), False)]


def test_what_was_missed_is_made_up_for_once_and_past_due() -> None:
    """A run of 3.5 minutes swallows three due moments: one late run follows, then the schedule goes on."""
    clock = JumpingClock(waits=3)
    runs: list[tuple[datetime, bool]] = []

    def slow_at_first(timer: func.TimerRequest) -> None:
        runs.append((clock.time, timer.past_due))
        if len(runs) == 1:
            clock.pass_time(210)

    run(clock, slow_at_first)
    minute = timedelta(minutes=1)
    assert runs == [(START + minute, False), (START + 4.5 * minute, True), (START + 5 * minute, False)]


def test_a_second_late_is_not_past_due() -> None:
    """Threads are never exactly on time."""
    clock = JumpingClock(waits=2)
    late: list[bool] = []

    def ends_just_after_the_next(timer: func.TimerRequest) -> None:
        late.append(timer.past_due)
        clock.pass_time(61)

    run(clock, ends_just_after_the_next)
    assert late == [False, False]


@pytest.mark.parametrize("error", [ValueError("CANARY"), SystemExit("CANARY")])
def test_a_timer_that_fails_is_due_again(error: BaseException, caplog: pytest.LogCaptureFixture) -> None:
    """The failure is logged by its class, without its message."""
    runs: list[bool] = []

    def fail(timer: func.TimerRequest) -> None:
        runs.append(timer.past_due)
        raise error

    run(JumpingClock(waits=2), fail)
    assert len(runs) == 2
    assert type(error).__name__ in caplog.text
    assert "CANARY" not in caplog.text


def test_one_run_at_a_time() -> None:
    """A run by hand waits for the one that goes on, as long as its patience lasts."""
    inside, leave = threading.Event(), threading.Event()

    def wait(_: func.TimerRequest) -> None:
        inside.set()
        assert leave.wait(10)

    timer = Timer(timer_function(wait), Schedule("0 * * * * *"), run_on_startup=False, clock=JumpingClock(0))
    first = threading.Thread(target=timer.fire, kwargs={"patience": 0})
    first.start()
    assert inside.wait(10)
    assert timer.fire(patience=0) is False
    leave.set()
    first.join(10)
    assert timer.fire(patience=0) is True


def test_a_due_run_waits_for_the_one_by_hand() -> None:
    """However due it is, it does not start beside the other; it starts when that has ended."""
    inside, both_inside, leave = threading.Event(), threading.Event(), threading.Event()

    def wait(_: func.TimerRequest) -> None:
        if inside.is_set() and not leave.is_set():
            both_inside.set()
        inside.set()
        assert leave.wait(10)
        runs.append(clock.time)

    runs: list[datetime] = []
    clock = JumpingClock(waits=1)
    timer = Timer(timer_function(wait), Schedule("0 * * * * *"), run_on_startup=False, clock=clock)
    by_hand = threading.Thread(target=timer.fire, kwargs={"patience": 0})
    by_hand.start()
    assert inside.wait(10)
    scheduled = threading.Thread(target=timer.run, args=(threading.Event(),))
    scheduled.start()
    assert not both_inside.wait(0.2)
    leave.set()
    by_hand.join(10)
    scheduled.join(10)
    assert len(runs) == 2


def test_an_error_of_a_run_by_hand_comes_through() -> None:
    """Whoever asked for the run learns of it, and the next run is not blocked."""
    errors: list[Exception] = [ValueError("once")]

    def fail_once(_: func.TimerRequest) -> None:
        if errors:
            raise errors.pop()

    timer = Timer(timer_function(fail_once), Schedule("0 * * * * *"), run_on_startup=False, clock=JumpingClock(0))
    with pytest.raises(ValueError, match="once"):
        timer.fire(patience=0)
    assert timer.fire(patience=0) is True


def test_the_system_clock_waits_until_the_moment_or_the_stop() -> None:
    """True for a moment that has come, also one in the past; False as soon as it should stop."""
    clock, stop = SystemClock(), threading.Event()
    assert clock.wait_until(clock.now() - timedelta(hours=1), stop) is True
    soon = clock.now() + timedelta(milliseconds=20)
    assert clock.wait_until(soon, stop) is True
    assert clock.now() >= soon
    stop.set()
    assert clock.wait_until(clock.now() + timedelta(hours=1), stop) is False
    assert clock.wait_until(clock.now() - timedelta(hours=1), stop) is False

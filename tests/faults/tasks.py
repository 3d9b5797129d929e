"""What tasks do. It is a module, so that workers of every kind can import it."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any, Callable, NoReturn

#: The task, of those numbered from 0, that misbehaves.
BAD = 2

#: How long tasks sleep, in seconds: beyond every patience, and long enough to be seen.
LONG = 120
SHORT = 3


def same(number: Any) -> Any:
    return number


def square(number: int) -> int:
    return number * number


def pid(_: Any) -> int:
    return os.getpid()


# ---- tasks that end their worker ----


def killed(number: int) -> int:
    if number == BAD:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def exited(number: int) -> int:
    if number == BAD:
        os._exit(7)
    return number


# ---- tasks that raise ----


class Bare(BaseException):
    pass


class NeedsTwo(Exception):
    """Pickle calls it with its `args`, which is one argument too few."""

    def __init__(self, a: int, b: int) -> None:
        super().__init__(f"{a} and {b}")


class HoldsLock(Exception):
    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.lock = threading.Lock()


def system_exit(number: int) -> int:
    if number == BAD:
        sys.exit(3)
    return number


def keyboard_interrupt(number: int) -> int:
    if number == BAD:
        raise KeyboardInterrupt
    return number


def bare_exception(number: int) -> int:
    if number == BAD:
        raise Bare("bare")
    return number


def unreadable_exception(number: int) -> int:
    if number == BAD:
        raise NeedsTwo(1, 2)
    return number


def exception_with_lock(number: int) -> int:
    if number == BAD:
        raise HoldsLock("it holds a lock")
    return number


# ---- things that cannot travel ----


def refuse() -> NoReturn:
    raise LookupError("it cannot be read")


class Unreadable:
    """It can be pickled, and not unpickled."""

    def __reduce__(self) -> Any:
        return refuse, ()


def lock_as_result(number: int) -> Any:
    return threading.Lock() if number == BAD else number


def lambda_as_result(number: int) -> Any:
    return (lambda: number) if number == BAD else number


def unreadable_result(number: int) -> Any:
    return Unreadable() if number == BAD else number


# ---- tasks that take their time ----


def _appear(number: int) -> None:
    """Shows that this task runs, and in which process."""
    new = Path(f"new.{number}")
    new.write_text(str(os.getpid()))
    new.rename(f"running.{number}")


def sleep_long(number: int) -> int:
    _appear(number)
    time.sleep(LONG)
    return number


def sleep_short(number: int) -> int:
    _appear(number)
    time.sleep(SHORT)
    Path(f"done.{number}").touch()
    return number


def ignore_sigterm(number: int) -> int:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    return sleep_long(number)


# ---- other ----


def failing_initializer() -> NoReturn:
    with open("starts", "a") as file:
        file.write(".")
    raise ConnectionError("no such database")


def nested(peer: str) -> list[int]:
    """The same kind of pool, in a worker."""
    import peers

    pool = peers.ALL[peer](workers=2)
    return [handle.result() for handle in pool.begin(square, range(3))]


def called(call: Callable[[Any], Any], item: Any) -> Any:
    """For pools that want keywords."""
    return call(item)


async def in_coroutine(call: Callable[[Any], Any], item: Any) -> Any:
    """For pools that want coroutines."""
    return call(item)

"""What workers do in tests. It is a module, so that workers of every start method can import it."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time
import warnings
from typing import Any, Callable

#: For tests of what workers inherit, and of initializers.
inherited: Any = None


def square(number: int) -> int:
    return number * number


def add(a: int, b: int = 10) -> int:
    return a + b


def arguments(*args: Any, **kwds: Any) -> Any:
    return args, kwds


def same(value: Any) -> Any:
    return value


def same_slowly(number: int, seconds: float = 0.01) -> int:
    time.sleep(seconds)
    return number


def pid(*_: Any) -> int:
    return os.getpid()


def for_ever(*_: Any) -> None:
    """Longer than any test may last."""
    time.sleep(3600)


def appear_and_wait(path: str) -> None:
    """Says that it runs, by a file, and goes on for ever."""
    with open(path, "w") as file:
        file.write(str(os.getpid()))
    os.rename(path, path + ".running")
    while True:
        # Not for long: Python would not see a signal that comes just before the sleep until after it.
        time.sleep(0.05)


def wait_for_file(path: str, value: Any = None) -> Any:
    """Gives `value` as soon as there is a file."""
    deadline = time.monotonic() + 60
    while not os.path.exists(path):
        if time.monotonic() > deadline:
            raise RuntimeError(f"nobody made {path}")
        time.sleep(0.005)
    return value


def meet(folder: str, workers: int) -> int:
    """Gives its process, once so many processes are in here."""
    open(os.path.join(folder, str(os.getpid())), "w").close()
    deadline = time.monotonic() + 60
    while len(os.listdir(folder)) < workers:
        if time.monotonic() > deadline:
            raise RuntimeError(f"no more came than {os.listdir(folder)}")
        time.sleep(0.005)
    return os.getpid()


def note(path: str, text: Any) -> Any:
    """Adds a line to a file, in one write."""
    with open(path, "a") as file:
        file.write(f"{text}\n")
    return text


# ---- errors ----


class Refused(Exception):
    """An exception with more than a message."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message, code)
        self.code = code


class NeedsTwo(Exception):
    """Its pickle cannot be read: the class wants two arguments, and the base class keeps one."""

    def __init__(self, first: int, second: int) -> None:
        super().__init__(f"{first} and {second}")
        self.first = first
        self.second = second


class HoldsLock(Exception):
    """It has something that cannot be pickled."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.lock = threading.Lock()
        self.message = message


class Bare(BaseException):
    """Not an `Exception`."""


def fail(*_: Any) -> None:
    raise ValueError("as expected")


def fail_at(bad: int, number: int) -> int:
    if number == bad:
        raise ValueError(number)
    return number


def fail_from(*_: Any) -> None:
    try:
        raise KeyError("first")
    except KeyError as error:
        raise RuntimeError("second") from error


def raise_error(error: BaseException) -> None:
    raise error


def raise_with_notes() -> None:
    error = Refused("no", 7)
    error.__dict__["extra"] = [1, 2]
    if hasattr(error, "add_note"):
        error.add_note("a note")
    raise error


# ---- faults: each is called with the number of a task, and only the third misbehaves ----

BAD = 2


def killed(number: int) -> int:
    if number == BAD:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def crashed(number: int) -> int:
    if number == BAD:
        ctypes.string_at(0)
    return number


def aborted(number: int) -> int:
    if number == BAD:
        os.abort()
    return number


def exited(number: int) -> int:
    if number == BAD:
        os._exit(7)
    return number


def system_exit(number: int) -> int:
    if number == BAD:
        sys.exit(3)
    return number


def keyboard_interrupt(number: int) -> int:
    if number == BAD:
        raise KeyboardInterrupt
    return number


def generator_exit(number: int) -> int:
    if number == BAD:
        raise GeneratorExit
    return number


def bare_exception(number: int) -> int:
    if number == BAD:
        raise Bare("bare")
    return number


def ordinary_exception(number: int) -> int:
    if number == BAD:
        raise Refused("refused", 5)
    return number


def unreadable_exception(number: int) -> int:
    if number == BAD:
        raise NeedsTwo(1, 2)
    return number


def exception_with_lock(number: int) -> int:
    if number == BAD:
        raise HoldsLock("held")
    return number


def lock_as_result(number: int) -> Any:
    return threading.Lock() if number == BAD else number


def lambda_as_result(number: int) -> Any:
    return (lambda: number) if number == BAD else number


def unreadable_result(number: int) -> Any:
    return Unreadable() if number == BAD else number


def crash_in_result(number: int) -> Any:
    return CrashesWhenPickled() if number == BAD else number


def _cannot_be_read() -> None:
    raise LookupError("it cannot be read")


class Unreadable:
    """Its pickle can be written, and not be read."""

    def __reduce__(self) -> Any:
        return _cannot_be_read, ()


class CrashesWhenPickled:
    def __reduce__(self) -> Any:
        os._exit(9)


def _crash_when_read() -> None:
    os._exit(8)


class CrashesWhenRead:
    def __reduce__(self) -> Any:
        return _crash_when_read, ()


def ignore_terminate(path: str) -> None:
    """Does not end by SIGTERM."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    appear_and_wait(path)


# ---- initializers ----


def set_inherited(*value: Any) -> None:
    global inherited
    inherited = value


def get_inherited(*_: Any) -> Any:
    return inherited


def failing_initializer(*_: Any) -> None:
    raise ZeroDivisionError("no start")


def dying_initializer(*_: Any) -> None:
    os._exit(5)


def process_name(*_: Any) -> str:
    import multiprocessing

    return multiprocessing.current_process().name


# ---- pools within workers ----


def nested_map(depth: int) -> int:
    """How many workers deep a pool in a pool can compute."""
    import procpool

    if depth == 0:
        return 0
    with procpool.Pool(1) as pool:
        return 1 + pool.apply(nested_map, (depth - 1,))


def nested_submit(number: int) -> int:
    import procpool

    with procpool.ProcessPoolExecutor(1) as executor:
        return executor.submit(square, number).result()


# ---- what a worker knows ----


def filters() -> list[Any]:
    return [(action, str(category)) for action, _, category, _, _ in warnings.filters]


def path() -> list[str]:
    return list(sys.path)


class Method:
    """An object whose methods are tasks."""

    def __init__(self, factor: int) -> None:
        self.factor = factor

    def times(self, number: int) -> int:
        return self.factor * number

    def __call__(self, number: int) -> int:
        return self.factor + number

    @classmethod
    def named(cls) -> str:
        return cls.__name__

    @staticmethod
    def static(number: int) -> int:
        return -number


def call(function: Callable[..., Any], *args: Any) -> Any:
    return function(*args)


def raise_local_error() -> None:
    class LocalError(Exception):
        pass

    raise LocalError("no way home")


def same_number(number: int) -> int:
    return number


def nested_wait(path: str) -> None:
    """Waits for a task of a pool of its own, for ever."""
    import procpool

    with procpool.Pool(1) as pool:
        pool.apply(appear_and_wait, (path,))


# ---- what a worker has ----


def count_under_lock(number: int) -> None:
    """With a lock, a queue and a shared value that the initializer was given."""
    lock, queue, value = inherited
    with lock:
        value.value += 1
        queue.put(number)


def command_line() -> list[str]:
    return sys.argv


def parent_pid() -> int:
    import multiprocessing

    parent = multiprocessing.parent_process()
    assert parent is not None and parent.pid is not None
    return parent.pid


def is_daemon() -> bool:
    import multiprocessing

    return multiprocessing.current_process().daemon


def put(shared: dict[int, int], number: int) -> None:
    shared[number] = number


def send(connection: Any, value: Any) -> None:
    connection.send(value)


def note_at_exit(path: str) -> None:
    from multiprocessing import util

    util.Finalize(None, note, (path, "left"), exitpriority=1)


# ---- for limits and retries ----


def die_before(path: str, tries: int, value: Any) -> Any:
    """Dies until it is called for the `tries`th time."""
    note(path, "try")
    with open(path) as file:
        if len(file.read().split()) < tries:
            os.kill(os.getpid(), signal.SIGKILL)
    return value


def die_in_turn(path: str) -> None:
    """Exits, is killed, crashes: at each call another."""
    note(path, "try")
    with open(path) as file:
        tries = len(file.read().split())
    if tries == 1:
        os._exit(7)
    if tries == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    ctypes.string_at(0)


def die_once_for(folder: str, number: int) -> int:
    """Dies the first time that it is called with this number."""
    path = os.path.join(folder, f"died-{number}")
    if not os.path.exists(path):
        open(path, "w").close()
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def note_and_fail(path: str) -> None:
    note(path, "try")
    raise ValueError("as expected")


def clean_up_when_terminated(path: str) -> None:
    def clean_up(number: int, frame: Any) -> None:
        with open(path + ".cleaned", "w") as file:
            file.write("cleaned")
        os._exit(0)

    signal.signal(signal.SIGTERM, clean_up)
    appear_and_wait(path)


_grown: list[bytearray] = []


def grow(size: int) -> int:
    """Takes memory, keeps it, and gives the worker's pid."""
    _grown.append(bytearray(os.urandom(1 << 20)) * (size >> 20))
    return os.getpid()


def grow_and_wait(size: int) -> None:
    for _ in range(size >> 20):
        _grown.append(bytearray(os.urandom(1 << 20)))
    time.sleep(3600)


def value_of(thing: Any) -> Any:
    return thing.value


# ---- for buffers ----


def change_first(value: Any) -> tuple[bool, int, bool]:
    """Whether it is readonly, its address, and whether it could be changed."""
    view = memoryview(value).cast("B")
    is_readonly = view.readonly
    where = ctypes.addressof(ctypes.c_char.from_buffer(view))
    view[0] = (view[0] + 1) % 256
    return is_readonly, where, True


def is_in_the_arena(value: Any) -> bool:
    where = ctypes.addressof(ctypes.c_char.from_buffer(memoryview(value).cast("B")))
    with open("/proc/self/maps") as maps:
        for line in maps:
            begin, end = (int(number, 16) for number in line.split()[0].split("-"))
            if begin <= where < end:
                return "memfd:procpool" in line
    return False


class Holder:
    """Something with a buffer of its own."""

    def __init__(self, data: Any) -> None:
        self.data = data

    def __reduce_ex__(self, protocol: Any) -> Any:
        import pickle

        return Holder, (pickle.PickleBuffer(self.data),)


def filled_array(value: int, count: int) -> Any:
    import numpy

    return numpy.full(count, value, dtype=numpy.float64)


def take_and_die(value: Any) -> None:
    _kept.append(value)
    os.kill(os.getpid(), signal.SIGKILL)


_kept: list[Any] = []


def keep(value: Any) -> None:
    _kept.append(value)


def kept_sums() -> list[int]:
    return [int(value.sum()) for value in _kept]


def big(kind: str, size: int) -> Any:
    import numpy

    if kind == "numpy":
        value = numpy.zeros(size, dtype=numpy.uint8)
        value[-1] = 1
        return value
    return b"\0" * (size - 1) + b"\1"


# ---- signals ----


def handle_asking_signal(path: str) -> None:
    """An initializer: the program has its own use for the signal that asks for stacks."""
    signal.signal(signal.SIGUSR2, lambda number, frame: open(path, "w").close())


def forget_asking_signal(_: Any) -> None:
    """Long enough that each of two workers does it."""
    signal.signal(signal.SIGUSR2, signal.SIG_DFL)
    time.sleep(0.05)

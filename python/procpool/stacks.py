"""The stacks of workers, for `dump`: a worker offers its own, and the parent asks for it by a signal.

Each worker has a file in memory for that. Both sides have the same open file, and so one position in it: the parent sets it
back before it asks, and faulthandler in the worker writes from there, whatever the worker is doing.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Optional

#: What asks for a stack, unless the program handles it itself.
ASKS = signal.SIGUSR2

#: Signals for which this process has `dump_on_signal`. In a worker that inherits them by a fork they mean nothing.
dumps_on: set[int] = set()

#: A file begins with this when its worker has offered its stack.
_OFFER = b"\n"

#: How long all workers together have for their answers, in seconds.
PATIENCE = 2.0

#: Between two looks for answers, in seconds.
_PAUSE = 0.005


class Asked:
    """A worker that may be asked."""

    def __init__(self, seat: int, pid: int, pidfd: Optional[int], place: Optional[int]) -> None:
        self.seat = seat
        self.pid = pid
        self.pidfd = pidfd
        self.place = place


def make_place() -> Optional[int]:
    """A new worker's file; None where there can be none."""
    try:
        return os.memfd_create("procpool-stacks", os.MFD_CLOEXEC)
    except (AttributeError, OSError):
        # An old kernel, or no descriptor left: stacks are a convenience.
        return None


# ---- the worker's side ----


def offer(place: Optional[int]) -> None:
    """From now on this process can be asked, unless the program has a handler of its own for the signal."""
    own = set(dumps_on)
    for number in own - {ASKS}:
        # Not the default, which would end a worker that is hit together with its parent.
        signal.signal(number, lambda number, frame: None)
    if place is None or (ASKS not in own and _handles(os.getpid(), ASKS)):
        return
    if ASKS in own:
        signal.signal(ASKS, signal.SIG_DFL)
    try:
        # After a fork the number also belongs to a copy of the pool's object, which may close it.
        place = os.dup(place)
        faulthandler.register(ASKS, place, all_threads=True, chain=False)
        os.write(place, _OFFER)
    except (OSError, RuntimeError, ValueError):
        pass


# ---- the parent's side ----


def ask(workers: list[Asked]) -> dict[int, str]:
    """The stacks of these workers, by seat, or why there is none. Takes `PATIENCE` at most."""
    refusals = {worker.seat: _refusal(worker) for worker in workers}
    asked = [worker for worker in workers if refusals[worker.seat] is None]
    for worker in asked:
        _send(worker)
    _wait_for_answers(asked)
    answers = {worker.seat: _answer(worker) or "(it has not answered in time)" for worker in asked}
    return {**{seat: refusal for seat, refusal in refusals.items() if refusal is not None}, **answers}


def _refusal(worker: Asked) -> Optional[str]:
    if worker.pidfd is None or worker.place is None:
        return "(the system has no means to ask)"
    if status_of(worker.pid).get("State", "").startswith(("T", "t")):
        return "(the process is stopped)"
    if os.fstat(worker.place).st_size == 0:
        return f"(it does not offer its stack: it is just starting, or the program handles {ASKS.name} itself)"
    # Whoever does not catch it would be ended by it.
    if not _handles(worker.pid, ASKS):
        return f"(a task has removed the handler of {ASKS.name})"
    return None


def _send(worker: Asked) -> None:
    assert worker.pidfd is not None and worker.place is not None
    start = len(_OFFER)
    os.ftruncate(worker.place, start)
    os.lseek(worker.place, start, os.SEEK_SET)
    try:
        signal.pidfd_send_signal(worker.pidfd, ASKS)
    except OSError:
        # It has died.
        pass


def _wait_for_answers(asked: list[Asked]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not all(map(_has_answered, asked)) and time.monotonic() < deadline:
        time.sleep(_PAUSE)


def _has_answered(worker: Asked) -> bool:
    assert worker.place is not None
    # While its handler runs, the signal is blocked; before that it is pending.
    return os.fstat(worker.place).st_size > len(_OFFER) and not _has(worker.pid, ASKS, "SigPnd", "ShdPnd", "SigBlk")


def _answer(worker: Asked) -> str:
    assert worker.place is not None
    size = os.fstat(worker.place).st_size
    return os.pread(worker.place, size, len(_OFFER)).decode(errors="replace").strip("\0\n")


# ---- processes ----


def _handles(pid: int, number: int) -> bool:
    """Whether the process catches or ignores a signal."""
    return _has(pid, number, "SigCgt", "SigIgn")


def _has(pid: int, number: int, *names: str) -> bool:
    """Whether a signal is in any of these masks of a process, or of its main thread."""
    status = status_of(pid)
    masks = [int(status.get(name, "0"), 16) for name in names]
    return any(mask >> (number - 1) & 1 for mask in masks)


def status_of(pid: int) -> dict[str, str]:
    """What proc(5) says of a process, by its names; nothing where there is none."""
    try:
        with open(f"/proc/{pid}/status") as file:
            lines = file.read().splitlines()
    except OSError:
        return {}
    fields = (line.partition(":") for line in lines)
    return {name: value.strip() for name, _, value in fields}

"""Sends signals to workers and to the fork server, at random instants. A process of its own.

It reads the pids that there are, a line of JSON at a time, and writes down every signal before it sends it. When it is told
null, or the program has died, it lets everything go on that it has stopped, and ends.

    adversary.py SEED SESSION LOG
"""

from __future__ import annotations

import json
import os
import random
import select
import signal
import sys
import time
from typing import NamedTuple, Optional

from process import Process

#: What is done to workers, and how often.
ATTACKS = {signal.SIGKILL: 4, signal.SIGSEGV: 2, signal.SIGTERM: 2, signal.SIGINT: 3, signal.SIGSTOP: 3}

#: How often it is the fork server's turn, of a hundred times.
SERVER = 3

#: The longest pause between two signals, and the longest time that a worker is stopped, in seconds.
PAUSE = 0.2
STOP = 0.5


#: A pool gives up when more than 16 of its workers die in so many seconds and none finishes a task. That is as it should be,
#: and not what is to be seen here.
SPELL = 10
DEATHS = 12


class Pids(NamedTuple):
    """Who is there."""

    #: By pool.
    workers: dict[str, list[int]]
    server: Optional[int]


class Adversary:
    def __init__(self, seed: int, session: int, log: str) -> None:
        self._random = random.Random(f"adversary {seed}")
        self._session = session
        self._parent = os.getppid()
        self._log = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self._pids = Pids({}, None)
        #: When which pool's workers were killed.
        self._killed: dict[str, list[float]] = {}
        self._unread = b""
        #: pidfds of those that are stopped, and until when.
        self._stopped: list[tuple[float, int]] = []

    def run(self) -> None:
        while self._listen(self._random.uniform(0, PAUSE)):
            self._release(time.monotonic())
            if self._pids.server is not None and self._random.randrange(100) < SERVER:
                self._send(self._pids.server, signal.SIGKILL)
            else:
                self._attack(time.monotonic())
        self._release(float("inf"))

    def _attack(self, now: float) -> None:
        workers = [(pool, pid) for pool, pids in self._pids.workers.items() for pid in pids]
        if not workers:
            return
        pool, pid = self._random.choice(workers)
        attack = self._random.choices(list(ATTACKS), list(ATTACKS.values()))[0]
        killed = self._killed[pool] = [at for at in self._killed.get(pool, ()) if now - at < SPELL]
        if attack in (signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM):
            if len(killed) >= DEATHS:
                return
            killed.append(now)
        self._send(pid, attack)

    def _listen(self, pause: float) -> bool:
        """Waits, and reads meanwhile who is there; False when it is over."""
        if os.getppid() != self._parent:
            return False
        until = time.monotonic() + pause
        while (left := until - time.monotonic()) > 0:
            if select.select([sys.stdin], [], [], left)[0]:
                data = os.read(sys.stdin.fileno(), 1 << 16)
                *lines, self._unread = (self._unread + data).split(b"\n")
                told = json.loads(lines[-1]) if lines else None
                if told is None and (lines or not data):
                    return False
                if told is not None:
                    self._pids = Pids(**told)
        return True

    def _send(self, pid: int, number: signal.Signals) -> None:
        try:
            pidfd = os.pidfd_open(pid)
        except OSError:
            # It has ended meanwhile.
            return
        try:
            is_ours, start = os.getsid(pid) == self._session, Process.of(pid).start
        except OSError:
            is_ours, start = False, 0
        if is_ours:
            # The number stands for the process that was looked at, as long as the descriptor is open.
            os.write(self._log, f"{time.monotonic()} {int(number)} {pid} {start}\n".encode())
            _signal(pidfd, number)
        if is_ours and number == signal.SIGSTOP:
            self._stopped.append((time.monotonic() + self._random.uniform(0, STOP), pidfd))
        else:
            os.close(pidfd)

    def _release(self, now: float) -> None:
        for entry in self._stopped[:]:
            until, pidfd = entry
            if until <= now:
                _signal(pidfd, signal.SIGCONT)
                os.close(pidfd)
                self._stopped.remove(entry)


def _signal(pidfd: int, number: signal.Signals) -> None:
    try:
        signal.pidfd_send_signal(pidfd, number)
    except ProcessLookupError:
        pass


if __name__ == "__main__":
    # Ctrl-C is the program's affair, which then closes the input.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Adversary(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]).run()

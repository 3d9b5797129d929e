"""Processes and all that they start: each bears a mark in its environment, which its children inherit.

A mark is a path of names that ends with a dot: whoever asks for `run.` finds those of `run.cell.` as well.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Callable, Optional

VARIABLE = "FAULTS_MARK"


class NotBegun(Exception):
    """The experiment did not get under way."""


#: How long a program, or a call, has that should end at once, in seconds.
LIMIT = 10

#: How long the processes that clean up after others have for that, in seconds.
TIDYING = 3


def start(script: str, *arguments: str, mark: str, folder: Path, log: Path) -> subprocess.Popen[bytes]:
    """Begins a script that lies here, in a session and so in a process group of its own."""
    with open(log, "wb") as output:
        return subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name(script)), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env={**os.environ, VARIABLE: mark, "PYTHONUNBUFFERED": "1"},
            start_new_session=True,
        )


def marked(mark: str) -> list[int]:
    """The processes that bear this mark. One that has ended has no environment."""
    wanted = f"\0{VARIABLE}={mark}".encode()
    return [int(path.name) for path in Path("/proc").glob("[0-9]*") if wanted in b"\0" + _read(path / "environ")]


def kill_all(mark: str) -> None:
    """Ends all of them. Resource trackers may first remove what the others had."""
    while victims := [pid for pid in marked(mark) if not _is_tracker(pid)]:
        _kill(victims)
    if time_until(lambda: not marked(mark), TIDYING) is None:
        _kill(marked(mark))


def _is_tracker(pid: int) -> bool:
    return b"resource_tracker" in _read(Path(f"/proc/{pid}/cmdline"))


def _kill(pids: list[int]) -> None:
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass


def is_alive(pid: int) -> bool:
    """An ended process whose parent has not asked for its status is not."""
    return _read(Path(f"/proc/{pid}/stat")).rpartition(b")")[2].split()[:1] not in ([], [b"Z"], [b"X"])


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def time_until(condition: Callable[[], Any], limit: float) -> Optional[float]:
    """How many seconds passed until it held; None if it did not within `limit` seconds."""
    begin = time.monotonic()
    while not condition():
        if time.monotonic() - begin > limit:
            return None
        time.sleep(0.01)
    return time.monotonic() - begin


class Program:
    """A program that uses a pool, with all that it starts. It ends, at the latest, with the block."""

    def __init__(self, peer: str, scene: str) -> None:
        self._mark = f"{os.environ[VARIABLE]}program."
        self._log = Path("program.log")
        self._process = start("program.py", scene, peer, mark=self._mark, folder=Path.cwd(), log=self._log)

    def __enter__(self) -> Program:
        time_until(lambda: Path("ready").exists() or self.has_ended(), LIMIT)
        if not Path("ready").exists():
            raise NotBegun(f"the program does not get ready: {self.output()[-1000:]}")
        return self

    def __exit__(self, *_: object) -> None:
        kill_all(self._mark)

    def interrupt(self) -> None:
        """As Ctrl-C does it."""
        os.killpg(self._process.pid, signal.SIGINT)

    def kill(self) -> None:
        """The program alone."""
        self._process.kill()

    def has_ended(self) -> bool:
        return self._process.poll() is not None

    def members(self) -> list[int]:
        """Its processes."""
        return marked(self._mark)

    def time_until_gone(self, limit: float = LIMIT) -> Optional[float]:
        """How long it takes until all of its processes have ended."""
        return time_until(lambda: self.has_ended() and not self.members(), limit)

    def output(self) -> str:
        return self._log.read_text(errors="replace")

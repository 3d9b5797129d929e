"""What a process holds: descriptors, threads, children, shared memory, temporary files. Tests compare before and after."""

from __future__ import annotations

import gc
import multiprocessing
import os
import re
import tempfile
import threading
from multiprocessing import forkserver
from pathlib import Path
from typing import Iterator, NamedTuple

from waiting import wait_until


class Holdings(NamedTuple):
    descriptors: frozenset[str]
    threads: frozenset[str]
    children: frozenset[str]
    mappings: frozenset[str]
    shared_memory: frozenset[str]
    temporary_files: frozenset[str]

    def new_since(self, before: Holdings) -> dict[str, list[str]]:
        """What is here and was not there, by kind."""
        new = {kind: sorted(now - then) for kind, now, then in zip(self._fields, self, before)}
        return {kind: things for kind, things in new.items() if things}


def holdings() -> Holdings:
    """What this process holds now."""
    return Holdings(
        frozenset(_descriptors()),
        frozenset(_threads()),
        frozenset(_children()),
        frozenset(_mappings()),
        frozenset(_shared_memory()),
        frozenset(_temporary_files()),
    )


def _is_nothing_new(before: Holdings) -> bool:
    if not holdings().new_since(before):
        return True
    # A thread that has ended meanwhile may have left a circle.
    gc.collect()
    return False


def check_nothing_is_new(before: Holdings, patience: float) -> None:
    """Waits for what ends by itself, for at most `patience` seconds, and fails with what does not."""
    gc.collect()
    # Also reaps children that have ended.
    multiprocessing.active_children()
    try:
        wait_until(lambda: _is_nothing_new(before), "nothing is left", patience)
    except AssertionError:
        new = holdings().new_since(before)
        if new:
            raise AssertionError(f"the test has left behind {new}") from None


def _descriptors() -> Iterator[str]:
    for number in os.listdir("/proc/self/fd"):
        try:
            yield f"{number} -> {os.readlink(f'/proc/self/fd/{number}')}"
        except OSError:
            # The one that was open for this listing.
            pass


def _threads() -> Iterator[str]:
    names = {thread.native_id: thread.name for thread in threading.enumerate()}
    for number in os.listdir("/proc/self/task"):
        try:
            system_name = Path(f"/proc/self/task/{number}/comm").read_text().strip()
        except OSError:
            # It has ended since the listing.
            continue
        yield f"{number} {names.get(int(number), system_name)}"


def children_of(pid: int | str) -> list[int]:
    """The processes that `pid` is the parent of, ended ones that were not reaped included."""
    children: list[int] = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children += map(int, path.read_text().split())
        except OSError:
            # The thread, or the process, has ended since the listing.
            pass
    return children


def _children() -> Iterator[str]:
    for pid in children_of("self"):
        yield f"{pid} {_command(pid)}"
    server = forkserver._forkserver._forkserver_pid  # type: ignore[attr-defined]
    if server is not None:
        for pid in children_of(server):
            yield f"{pid} {_command(pid)} (of the fork server)"


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[0].split("(", 1)[1]
    except OSError:
        return "ended"


def _mappings() -> Iterator[str]:
    for line in Path("/proc/self/maps").read_text().splitlines():
        if "/memfd:" in line:
            addresses, _, rest = line.partition(" ")
            yield f"{addresses} {rest.rsplit(' ', 2)[-2:]}"


def _shared_memory() -> Iterator[str]:
    """Names in /dev/shm, without those of other programs: semaphores of this one bear a prefix of its own."""
    ours = f"sem.{multiprocessing.current_process()._config['semprefix'][1:]}-"  # type: ignore[attr-defined]
    for name in os.listdir("/dev/shm"):
        is_ours = name.startswith(ours) if name.startswith("sem.") else not any(map(_is_foreign, _pids_in(name)))
        if is_ours:
            yield name


def _pids_in(name: str) -> Iterator[int]:
    """Most programs put their number into such names."""
    return map(int, re.findall(r"(?<=[-_])\d+(?=[-_])", name))


def _is_foreign(pid: int) -> bool:
    """Whether it lives, and is neither this process nor one that descends from it."""
    is_alive = Path(f"/proc/{pid}").exists()
    while pid not in (0, os.getpid()):
        try:
            pid = int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
        except OSError:
            break
    return is_alive and pid != os.getpid()


def _temporary_files() -> Iterator[str]:
    """Those of fork servers apart: the standard library's remove them when the program ends, and if it is killed never."""
    for folder, folders, files in os.walk(tempfile.gettempdir()):
        yield from (
            os.path.join(folder, name) for name in [*folders, *files] if not name.startswith(("pymp-", "listener-"))
        )

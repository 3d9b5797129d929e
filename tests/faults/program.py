"""A program that uses a pool, to be interrupted or killed: `python program.py SCENE PEER`."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

import peers
import rows
import tasks
from peer import Peer
from processes import LIMIT, time_until


def tell() -> None:
    Path("ready").touch()


def interrupt(peer: type[Peer]) -> None:
    def tell_when_tasks_run() -> None:
        if time_until(lambda: len(rows.running()) >= peer.at_once, LIMIT) is not None:
            tell()

    threading.Thread(target=tell_when_tasks_run, daemon=True).start()
    peer().map_in_a_program(tasks.sleep_long, range(6))


def end(peer: type[Peer]) -> None:
    global pool
    # A module's own variable, as in a script.
    pool = peer()
    rows.begun(pool, tasks.sleep_short, 4)
    tell()


def idle(peer: type[Peer]) -> None:
    pool = peer()
    for handle in pool.begin(tasks.same, range(4)):
        handle.result()
    tell()
    time.sleep(tasks.LONG)


def busy(peer: type[Peer]) -> None:
    pool = peer()
    rows.begun(pool, tasks.sleep_short, pool.at_once)
    tell()
    time.sleep(tasks.LONG)


SCENES = {scene.__name__: scene for scene in (interrupt, end, idle, busy)}

if __name__ == "__main__":
    SCENES[sys.argv[1]](peers.ALL[sys.argv[2]])

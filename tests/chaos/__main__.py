"""A program under load, an adversary that kills its workers at random, and a ledger that says whether anything was lost.

    python tests/chaos SECONDS PARENTS SEED

For SECONDS workers and fork servers are killed, then for PARENTS seconds the program itself, again and again. Prints a line
about each. Where something went wrong: what, and the adversary's log, and the status is 1. The same seed gives the same calls
and attacks, though not at the same instants.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import multiprocessing
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections import Counter
from multiprocessing import forkserver, resource_tracker
from pathlib import Path
from signal import Signals
from typing import Any

import parents
from callers import Caller, Maker, Yard, end
from holdings import check_nothing_is_new, holdings
from ledger import Ledger
from verdict import Judge, Sent, read_log
from waiting import LONG

CALLERS = 5
MAKERS = 2
#: Pools that are there from the beginning to the end.
LASTING = 3

#: How long what ends by itself may take for that, in seconds.
PATIENCE = 20

#: How often the adversary is told who is there, in seconds.
REPORT = 0.02

HERE = Path(__file__).parent


class Spotter(threading.Thread):
    """Tells the adversary which processes there are."""

    def __init__(self, yard: Yard, seed: int, log: Path) -> None:
        super().__init__(name="spotter", daemon=True)
        self.servers: set[int] = set()
        self._yard = yard
        self._called_off = threading.Event()
        command = [sys.executable, str(HERE / "adversary.py"), str(seed), str(os.getsid(0)), str(log)]
        self._adversary = subprocess.Popen(command, stdin=subprocess.PIPE)
        self.start()

    def run(self) -> None:
        assert self._adversary.stdin is not None
        with self._adversary.stdin as told:
            while not self._called_off.wait(REPORT):
                told.write(json.dumps(self._look()).encode() + b"\n")
                told.flush()
            # Not the end of the input alone: forked workers hold it open.
            told.write(b"null\n")

    def _look(self) -> dict[str, Any]:
        workers: dict[str, list[int]] = {}
        for target in list(self._yard.targets):
            pids = [worker.pid for worker in target.pool.stats().workers if worker.pid]
            target.pids.update(pids)
            workers[target.name] = pids
        server = forkserver._forkserver._forkserver_pid  # type: ignore[attr-defined]
        if server is not None:
            self.servers.add(server)
        return {"workers": workers, "server": server}

    def call_off(self) -> None:
        """Ends the adversary; what it has stopped goes on."""
        self._called_off.set()
        self.join()
        if self._adversary.wait() != 0:
            raise RuntimeError(f"the adversary has failed with status {self._adversary.returncode}")


def load(seconds: float, seed: int, ledger: Ledger, log: Path) -> set[int]:
    """The run itself; gives the pids of all fork servers."""
    rng = random.Random(f"yard {seed}")
    yard = Yard()
    for _ in range(LASTING):
        yard.make(rng)
    lasting = list(yard.targets)
    spotter = Spotter(yard, seed, log)
    callers = [Caller(number, seed, yard, ledger) for number in range(CALLERS)]
    callers += [Maker(CALLERS + number, seed, yard, ledger) for number in range(MAKERS)]
    for caller in callers:
        caller.start()
    time.sleep(seconds)
    yard.over.set()
    spotter.call_off()
    for caller in callers:
        caller.join(2 * LONG)
        if caller.is_alive():
            ledger.violations.append(f"{caller.doing} hangs")
    if not any(caller.is_alive() for caller in callers):
        check_all_work(lasting, ledger)
    return spotter.servers


def check_all_work(targets: list[Any], ledger: Ledger) -> None:
    """After all that the pools are as good as new."""
    for target in targets:
        try:
            values: Any = list(target.pool.map(abs, range(-100, 0)))
        except Exception as error:
            values = error
        if values != list(range(100, 0, -1)):
            ledger.violations.append(f"{target} does not work any more: {values!r}")
        target.ending = "close"
        end(target)


def run(seconds: float, seed: int, folder: Path) -> int:
    ledger, log = Ledger(folder), folder / "log"
    log.touch()
    before = holdings()
    servers = load(seconds, seed, ledger, log)
    violations = Judge(ledger, read_log(log), servers).violations()
    for entry in ledger.entries:
        entry.target.pool = None
    for path in folder.glob("journal.*"):
        path.unlink()
    try:
        stop_servers()
        check_nothing_is_new(before, PATIENCE)
    except AssertionError as error:
        violations.append(str(error))
    print(summary(seconds, seed, ledger, read_log(log), len(violations)))
    if violations:
        print(*violations, sep="\n")
        print("the adversary's log: time, signal, pid, its start", log.read_text(), sep="\n")
    return 1 if violations else 0


def stop_servers() -> None:
    """The standard library's own processes, which would stay to the end of the program."""
    forkserver._forkserver._stop()  # type: ignore[attr-defined]
    resource_tracker._resource_tracker._stop()  # type: ignore[attr-defined]


def summary(seconds: float, seed: int, ledger: Ledger, sent: list[Sent], violations: int) -> str:
    signals = Counter(Signals(entry.number).name for entry in sent)
    told = ", ".join(f"{count} {name}" for name, count in sorted(signals.items()))
    ends = ", ".join(f"{count} {name}" for name, count in ledger.outcomes().most_common())
    calls, pools = len(ledger.entries), len({entry.target for entry in ledger.entries})
    orders = sum(len(entry.orders) for entry in ledger.entries)
    return (
        f"chaos: seed {seed}, {seconds:g} s, {pools} pools, {calls} calls with {orders} tasks; "
        f"sent {told}; ends: {ends}; {violations} violations"
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="chaos", description=__doc__.splitlines()[0])
    parser.add_argument("seconds", type=float)
    parser.add_argument("parents", type=float)
    parser.add_argument("seed", type=int)
    arguments = parser.parse_args()
    # Whoever hangs is shown, in all threads.
    faulthandler.dump_traceback_later(arguments.seconds + arguments.parents + 4 * LONG, exit=True)
    warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
    # Names of semaphores are seen by all: these are known to be this program's.
    multiprocessing.current_process()._config["semprefix"] = f"/chaos-{os.getpid()}"  # type: ignore[attr-defined]
    with tempfile.TemporaryDirectory(prefix="ledger-") as folder:
        status = run(arguments.seconds, arguments.seed, Path(folder))
    return status or (parents.run(arguments.parents, arguments.seed) if arguments.parents else 0)


if __name__ == "__main__":
    sys.exit(main())

"""A short chaos run, and whether its judge finds what is wrong. Longer runs: `make chaos-python`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import procpool
import pytest
from programs import HERE

CHAOS = str(Path(HERE).parent / "chaos")

#: Of the run with workers that are killed, and of the one with programs.
SECONDS, PARENTS, SEED = "8", "3", "1"


# The run has a watchdog of its own, which names what hangs.
@pytest.mark.timeout(280)
def test_whatever_dies_every_call_ends_once_and_only_the_unlucky_fail(tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, CHAOS, SECONDS, PARENTS, SEED],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": HERE},
        start_new_session=True,
    )
    lines = run.stdout.splitlines()
    assert run.returncode == 0, run.stdout + run.stderr
    assert [line.endswith(" 0 violations") for line in lines] == [True, True], run.stdout


# ---- the judge ----


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(CHAOS)
    from ledger import Ledger  # type: ignore[import-not-found]

    return Ledger(tmp_path)


def verdict(ledger: Any, *sent: tuple[int, int]) -> list[str]:
    """What the judge finds, if these signals were sent to these pids."""
    from process import Process  # type: ignore[import-not-found]
    from verdict import Judge, Sent  # type: ignore[import-not-found]

    signals = [Sent(0.0, number, Process(pid, 0)) for number, pid in sent]
    violations: list[str] = Judge(ledger, signals, set()).violations()
    return violations


def enter(ledger: Any, *begun_by: int, start: int = 0, behaviour: str = "answer", **options: Any) -> Any:
    """A call with one order, which these workers began."""
    import random

    from ledger import Target  # type: ignore[import-not-found]

    order, _payload = ledger.order(random.Random(0), behaviour)
    with open(ledger.journal, "a") as journal:
        journal.writelines(f"{order.number} {pid} {start}\n" for pid in begun_by)
    return ledger.enter(Target("a pool", None, "fork"), "apply", [order], **options)


def right(entry: Any) -> list[Any]:
    import work  # type: ignore[import-not-found]

    return [(order.number, work.answer(order)) for order in entry.orders]


def test_the_judge_has_nothing_against_values_and_deaths_that_were_sent(ledger: Any) -> None:
    entry = enter(ledger, 7)
    entry.returned(right(entry), entry.orders)
    entry = enter(ledger, 8)
    entry.failed(procpool.WorkerDied(8, signal.SIGSEGV), entry.orders)
    entry = enter(ledger, 9, behaviour="die")
    entry.failed(procpool.WorkerDied(9, signal.SIGKILL), entry.orders)
    entry = enter(ledger, 10, 11, retries=1)
    entry.returned(right(entry), entry.orders)
    assert verdict(ledger, (signal.SIGSEGV, 8), (signal.SIGKILL, 10)) == []


def test_the_judge_finds_a_call_that_never_ended(ledger: Any) -> None:
    enter(ledger, 7)
    (violation,) = verdict(ledger)
    assert "1 orders have no end" in violation


def test_the_judge_finds_a_call_that_ended_twice(ledger: Any) -> None:
    entry = enter(ledger, 7)
    entry.returned(right(entry), entry.orders)
    entry.returned(right(entry), entry.orders)
    assert any("ended 2 times" in violation for violation in verdict(ledger))


def test_the_judge_finds_a_wrong_value(ledger: Any) -> None:
    entry = enter(ledger, 7)
    ((number, value),) = right(entry)
    entry.returned([(number, value + b"more")], entry.orders)
    assert len(verdict(ledger)) == 1


def test_the_judge_finds_a_call_that_ran_twice(ledger: Any) -> None:
    entry = enter(ledger, 7, 8)
    entry.returned(right(entry), entry.orders)
    (violation,) = verdict(ledger)
    assert "began 2 times" in violation


@pytest.mark.parametrize("sent", [[], [(signal.SIGSTOP, 7)], [(signal.SIGTERM, 7)], [(signal.SIGKILL, 8)]])
def test_the_judge_finds_a_death_that_nobody_caused(ledger: Any, sent: Any) -> None:
    entry = enter(ledger, 7)
    entry.failed(procpool.WorkerDied(7, signal.SIGKILL), entry.orders)
    assert len(verdict(ledger, *sent)) == 1


def test_the_judge_finds_two_calls_that_failed_with_one_death(ledger: Any) -> None:
    for _ in range(2):
        entry = enter(ledger, 7)
        entry.failed(procpool.WorkerDied(7, signal.SIGKILL), entry.orders)
    assert len(verdict(ledger, (signal.SIGKILL, 7))) == 1


def test_the_judge_tells_workers_apart_that_had_the_same_number(ledger: Any) -> None:
    for start in range(2):
        entry = enter(ledger, 7, start=start, behaviour="die")
        entry.failed(procpool.WorkerDied(7, signal.SIGKILL), entry.orders)
    assert verdict(ledger) == []
    entry = enter(ledger, 7, start=2)
    entry.failed(procpool.WorkerDied(7, signal.SIGKILL), entry.orders)
    assert len(verdict(ledger, (signal.SIGKILL, 7))) == 1


def test_the_judge_finds_a_death_that_failed_a_call_which_ran_elsewhere(ledger: Any) -> None:
    entry = enter(ledger, 8)
    entry.failed(procpool.WorkerDied(7, signal.SIGKILL), entry.orders)
    assert len(verdict(ledger, (signal.SIGKILL, 7))) == 1


@pytest.mark.parametrize(
    "error",
    [
        procpool.CancelledError(),
        procpool.Terminated(),
        procpool.PoolBroken(),
        procpool.TaskTimeout(1.0),
        ValueError("Pool not running"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_the_judge_finds_an_end_that_nobody_asked_for(ledger: Any, error: BaseException) -> None:
    entry = enter(ledger, 7, timeout=1.0)
    entry.failed(error, entry.orders)
    assert len(verdict(ledger)) == 1


def test_the_judge_finds_a_cancelled_call_that_ran(ledger: Any) -> None:
    entry = enter(ledger, 7)
    entry.is_cancelled = True
    entry.failed(procpool.CancelledError(), entry.orders)
    assert len(verdict(ledger)) == 1

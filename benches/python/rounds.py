"""Measures a case: in every round each contender once, and each round begins with another one."""

from __future__ import annotations

import json
import os
import select
import signal
import statistics
import subprocess
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

from case import Case

CHILD = Path(__file__).with_name("child.py")

#: Seconds that a contender has to get ready, and again for each round.
LIMIT = 30.0
#: Seconds that it has to end its workers when all is measured.
LIMIT_TO_LEAVE = 5.0


@dataclass
class Entry:
    """What was measured of one contender."""

    contender: str
    #: One for each round.
    figures: list[float] = field(default_factory=list)
    #: Why there are none (or no more).
    failure: Optional[str] = None

    @property
    def median(self) -> Optional[float]:
        return statistics.median(self.figures) if self.figures and self.failure is None else None


class Failed(Exception):
    """The contender cannot be measured; the text says why."""


class Participant:
    """A contender in its process, which lives as long as its case is measured."""

    def __init__(self, case: Case, contender: str, quick: bool) -> None:
        self.entry = Entry(contender)
        self._command = [sys.executable, str(CHILD), case.name, contender, "quick" if quick else "full"]
        self._fresh = case.fresh
        self._errors = tempfile.TemporaryFile("w+")
        self._child: Optional[subprocess.Popen[str]] = None
        if not self._fresh:
            # One round that does not count: it warms up, and finds out whether there is anything to measure.
            self.measure()
            self.entry.figures.clear()

    def measure(self) -> None:
        """Measures one round, unless the contender has failed before."""
        if self.entry.failure is not None:
            return
        try:
            if self._child is None:
                self._start()
            self.entry.figures.append(self._ask("round\n")["figure"])
        except Failed as failed:
            self.entry.failure = str(failed)
        if self._fresh or self.entry.failure is not None:
            self.end()

    def _start(self) -> None:
        self._child = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            start_new_session=True,
        )
        self._ask("")

    def _ask(self, question: str) -> dict[str, Any]:
        child = self._child
        assert child is not None and child.stdin is not None and child.stdout is not None
        with suppress(BrokenPipeError):
            child.stdin.write(question)
            child.stdin.flush()
        readable, _, _ = select.select([child.stdout], [], [], LIMIT)
        if not readable:
            raise Failed(f"no result in {LIMIT:.0f} s")
        line = child.stdout.readline()
        if not line:
            raise Failed(f"ended: {self._last_words()}")
        answer: dict[str, Any] = json.loads(line)
        for reason in ("missing", "failed"):
            if reason in answer:
                raise Failed(answer[reason])
        return answer

    def _last_words(self) -> str:
        self._errors.seek(0)
        lines = self._errors.read().strip().splitlines()
        return lines[-1] if lines else "without a word"

    def end(self) -> None:
        """Lets the process end its workers, and then ends what is left of them."""
        child, self._child = self._child, None
        if child is None:
            return
        with suppress(subprocess.TimeoutExpired):
            child.communicate(timeout=LIMIT_TO_LEAVE if self.entry.failure is None else 0.1)
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()


def run(case: Case, contenders: list[str], rounds: int, quick: bool) -> list[Entry]:
    """Measures `case` in so many rounds. All of its processes are gone when this returns."""
    participants: list[Participant] = []
    try:
        participants += (Participant(case, contender, quick) for contender in contenders)
        for number in range(rounds):
            first = number % len(participants)
            for participant in participants[first:] + participants[:first]:
                participant.measure()
    finally:
        for participant in participants:
            participant.end()
    return [participant.entry for participant in participants]

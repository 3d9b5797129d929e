"""What became of tasks, and the words for it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Callable, Iterable, Optional, Sequence, Union

import tasks
from peer import Peer
from processes import time_until

#: How long results are waited for, in seconds. One peer notices a lost worker after ten.
PATIENCE = 13

#: How long a pool has to do four empty tasks, after something went wrong.
PATIENCE_AFTER = 4

#: What is longer than this, in seconds, is worth telling.
SLOW = 4

#: The words of verdicts, and what they mean.
WORDS = {
    "ok": "The call does what it should.",
    "ok-rest": "Only the misbehaving task fails; all others return, and the pool can be used afterwards.",
    "raises": "The call, which stands for all tasks, fails; the pool can be used afterwards.",
    "all fail": "Other tasks fail as well; the pool can be used afterwards.",
    "error": "Only that task fails, but it should not fail, or with another error.",
    "lost": "The result never comes, and who waits for it waits for ever; but the pool can be used afterwards.",
    "BREAK": "The pool fails everything, then and from now on; the program must make another one.",
    "HANG": "Results never come, and the pool cannot be used any more. Or the program does not end.",
    "orphans": "The program has ended, but processes of its pool stay.",
    "CRASH": "The program itself died.",
    "?": "The experiment did not get under way.",
    "-": "There is no such call.",
}


@dataclass(frozen=True)
class Seen:
    """What was seen in a cell."""

    #: One of `WORDS`, or what was measured.
    verdict: str
    on_target: bool
    #: As the name of the error.
    detail: str = ""


@dataclass(frozen=True)
class Value:
    """A task has returned this."""

    value: Any


@dataclass(frozen=True)
class Failure:
    """A task has failed with this."""

    error: BaseException


@dataclass(frozen=True)
class Pending:
    """A task has not ended in time."""


Outcome = Union[Value, Failure, Pending]

#: What should become of the task that misbehaves.
Target = Callable[[Outcome], bool]


def fails(outcome: Outcome) -> bool:
    return isinstance(outcome, Failure)


def ends(outcome: Outcome) -> bool:
    return not isinstance(outcome, Pending)


def fails_with(kind: type[BaseException]) -> Target:
    return lambda outcome: isinstance(outcome, Failure) and type(outcome.error) is kind


def returns(value: Any) -> Target:
    return lambda outcome: outcome == Value(value)


def outcomes_of(handles: Sequence[Any], patience: float) -> list[Outcome]:
    time_until(lambda: all(handle.done() for handle in handles), patience)
    return [outcome_of(handle) for handle in handles]


def outcome_of(handle: Any) -> Outcome:
    if not handle.done():
        return Pending()
    try:
        return Value(handle.result())
    except BaseException as error:
        return Failure(error)


def is_usable(pool: Peer) -> Optional[bool]:
    """Whether it does new tasks; None if it does not say."""
    outcomes = outcomes_of(pool.begin(tasks.same, range(4)), PATIENCE_AFTER)
    if Pending() in outcomes:
        return None
    return outcomes == [Value(number) for number in range(4)]


def judged(pool: Peer, handles: Sequence[Any], bad: Sequence[int], target: Target) -> Seen:
    """What became of tasks of which the `bad` misbehave, and of the pool. The others return their numbers."""
    begin = time.monotonic()
    outcomes = outcomes_of(handles, PATIENCE)
    seconds = time.monotonic() - begin
    usable = is_usable(pool)
    misbehaving = [outcomes[index] for index in bad]
    others = [outcome for index, outcome in enumerate(outcomes) if index not in bad]
    returned = [Value(index) for index in range(len(outcomes)) if index not in bad]
    detail = details(misbehaving)
    if Pending() not in outcomes and seconds > SLOW:
        detail += f" after {seconds:.0f} s"
    if usable is None or Pending() in outcomes:
        innocent = others.count(Pending())
        return Seen("lost" if usable else "HANG", False, f"with {innocent} others" if usable and innocent else "")
    if not usable:
        return Seen("BREAK", False, detail)
    if others != returned:
        return Seen("all fail", False, detail)
    if not all(map(target, misbehaving)):
        return Seen("error", False, detail)
    return Seen("ok-rest" if any(map(fails, misbehaving)) else "ok", True, detail)


def duration(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds >= 0.05 else "< 0.1 s"


def details(outcomes: Iterable[Outcome]) -> str:
    """The names of the errors, each once."""
    return ", ".join(dict.fromkeys(type(it.error).__name__ for it in outcomes if isinstance(it, Failure)))

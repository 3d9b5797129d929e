"""What a pool was asked for and has not given yet."""

from __future__ import annotations

import itertools

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Iterable

job_counter = itertools.count()


def take_outcomes(tasks: Iterable[Any]) -> None:
    """Takes the outcomes that are there out of the pool's memory; the tasks keep them. Those already given are None."""
    for task in list(tasks):
        if task is not None and task.is_ended():
            task.outcome()


class Cache(dict[int, "Any"]):
    """The results that are not settled, by job. What it says is true at the moment when it is asked."""

    #: With so many entries it is looked over for jobs that have ended meanwhile.
    limit = 1024

    def add(self, job: int, result: Any) -> None:
        self[job] = result
        if dict.__len__(self) > self.limit:
            self.settle_ended()
            self.limit = 2 * dict.__len__(self) + 1024

    def settle_ended(self) -> None:
        """Forgets what has ended."""
        for result in list(dict.values(self)):
            result._settle_if_ended()

    def take_ended(self) -> None:
        """Takes all outcomes that are there out of the pool's memory, to make room."""
        for result in list(dict.values(self)):
            result._take_ended()

    def __len__(self) -> int:
        self.settle_ended()
        return dict.__len__(self)

    def __bool__(self) -> bool:
        return len(self) > 0

    def __iter__(self) -> Any:
        self.settle_ended()
        return dict.__iter__(self)

    def keys(self) -> Any:
        self.settle_ended()
        return dict.keys(self)

    def values(self) -> Any:
        self.settle_ended()
        return dict.values(self)

    def items(self) -> Any:
        self.settle_ended()
        return dict.items(self)

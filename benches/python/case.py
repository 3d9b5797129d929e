"""What a case is: one comparison, whose contenders are each prepared once and then measured in rounds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Optional

from contenders import Contender, Missing, Open

#: Measures once, and gives the figure in the unit of its case.
Round = Callable[[], float]

WORKERS = 2
NO_TASKS = "does not run tasks"

STANDARD_POOL = "multiprocessing"
STANDARD_EXECUTOR = "concurrent.futures"


@dataclass(frozen=True)
class Load:
    """How much work a round is at least."""

    tiny_tasks: int
    #: Seconds.
    spell: float


FULL = Load(tiny_tasks=5_000, spell=0.2)
QUICK = Load(tiny_tasks=2_000, spell=0.05)


@dataclass(frozen=True)
class Case:
    """One comparison."""

    name: str
    unit: str
    higher_is_better: bool
    #: Sets up what is not to be measured, once for all rounds.
    prepare: Callable[[str, Load], Round]
    #: Whom the others are compared with.
    baseline: str
    #: Whether each round needs a process of its own, where nothing happened before.
    fresh: bool = False
    #: Who takes part, where that is not everybody.
    contenders: Optional[tuple[str, ...]] = None
    #: No more rounds than this, where each takes long.
    most_rounds: int = 100
    note: str = ""


def opened(table: dict[str, Open], name: str, workers: int = WORKERS) -> Contender:
    if name not in table:
        raise Missing(NO_TASKS)
    return table[name](workers, None)

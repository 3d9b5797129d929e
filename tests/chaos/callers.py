"""The threads that use the pools, and those that make and end pools meanwhile."""

from __future__ import annotations

import multiprocessing
import random
import threading
import time
import traceback
from typing import Any, Optional

import procpool
import stories
import work
from ledger import Entry, Ledger, Target
from stories import EXECUTOR, POOL
from waiting import LONG
from work import Order

METHODS = multiprocessing.get_all_start_methods()


class Yard:
    """The pools that there are at the moment."""

    def __init__(self) -> None:
        self.targets: list[Target] = []
        self.over = threading.Event()
        self._made = 0

    def make(self, rng: random.Random, *, breaks: bool = False) -> Target:
        """One more pool or executor."""
        method = rng.choice(METHODS)
        context = multiprocessing.get_context(method)
        recycled = rng.choice([None, None, 10])
        self._made += 1
        if breaks or rng.random() < 0.4:
            pool: Any = procpool.ProcessPoolExecutor(
                rng.randrange(1, 4),
                context,
                max_tasks_per_child=recycled,
                on_worker_death="break" if breaks else "continue",
            )
        else:
            pool = procpool.Pool(rng.randrange(1, 4), maxtasksperchild=recycled, context=context)
        target = Target(f"{type(pool).__name__} {self._made} by {method}", pool, method, breaks=breaks)
        self.targets.append(target)
        return target


class Caller(threading.Thread):
    """Uses whatever pools there are until it is over."""

    def __init__(self, number: int, seed: int, yard: Yard, ledger: Ledger) -> None:
        super().__init__(name=f"caller-{number}", daemon=True)
        self.rng = random.Random(f"caller {number} {seed}")
        self.yard = yard
        self.ledger = ledger
        #: What it does now, for when it hangs.
        self.doing = "nothing"

    def run(self) -> None:
        while not self.yard.over.is_set():
            try:
                self.go_on()
            except Exception:
                self.ledger.violations.append(f"{self.doing}:\n{traceback.format_exc()}")

    def go_on(self) -> None:
        target = self.rng.choice(self.yard.targets)
        told = POOL if isinstance(target.pool, procpool.Pool) else EXECUTOR
        story = self.rng.choices(list(told), list(told.values()))[0]
        self.doing = f"{story.__name__} of {target}"
        story(self, target)

    # ---- for stories ----

    def order(self, behaviour: str = work.ANSWER) -> tuple[Order, Any]:
        return self.ledger.order(self.rng, behaviour)

    def pairs(self, most: int) -> list[tuple[Order, Any]]:
        return [self.order() for _ in range(self.rng.randrange(1, most))]

    def enter(
        self,
        target: Target,
        call: str,
        orders: list[Order],
        *,
        timeout: Optional[float] = None,
        retries: int = 0,
        chunksize: int = 1,
    ) -> Entry:
        return self.ledger.enter(target, call, orders, timeout=timeout, retries=retries, chunksize=chunksize)

    def pause(self, most: float) -> None:
        time.sleep(self.rng.uniform(0, most))


class Maker(Caller):
    """Makes pools that others use as well, and ends them in every way that there is."""

    def go_on(self) -> None:
        self.doing = "making a pool"
        target = self.yard.make(self.rng, breaks=self.rng.random() < 0.1)
        self.pause(1.0)
        if self.rng.random() < 0.5:
            self.doing = f"a last call of {target}"
            last = stories.apply if isinstance(target.pool, procpool.Pool) else stories.submit
            last(self, target)
        # From here on calls may be refused.
        if isinstance(target.pool, procpool.Pool):
            target.ending = self.rng.choice(["close", "terminate"])
        else:
            target.ending = self.rng.choice(["close", "cancel", "terminate", "kill"])
        self.doing = f"{target.ending} of {target}"
        self.yard.targets.remove(target)
        end(target)


def end(target: Target) -> None:
    """Ends a pool in the way that its target names, and waits for that."""
    pool = target.pool
    if isinstance(pool, procpool.Pool):
        pool.close() if target.ending == "close" else pool.terminate()
        pool.join(LONG)
    elif target.ending in ("close", "cancel"):
        pool.shutdown(cancel_futures=target.ending == "cancel")
    else:
        pool.terminate_workers() if target.ending == "terminate" else pool.kill_workers()
        pool.shutdown()

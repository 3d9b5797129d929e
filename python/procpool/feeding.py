"""Threads that read the input of `imap`: nobody knows how long it takes to come."""

from __future__ import annotations

import threading
import weakref

from . import _procpool
from .deadlines import left
from .submission import FailedInput

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Iterator

    from .deadlines import Deadline
    from .iterators import IMapIterator


class Feeders:
    """Those of one pool."""

    def __init__(self) -> None:
        #: Who reads, and for whom: an iterator, which keeps its pool.
        self._reading: dict[threading.Thread, weakref.ref[IMapIterator]] = {}
        self._lock = threading.RLock()
        self._are_stopped = False

    def feed(self, engine: _procpool.Engine, steps: Iterator[None], iterator: IMapIterator) -> None:
        """Takes all of `steps`, which give `iterator` its tasks, in a thread."""
        arguments = (engine, steps, iterator)
        thread = threading.Thread(target=self._feed, args=arguments, name="procpool-feeder", daemon=True)
        with self._lock:
            thread.start()
            still = {thread: iterator for thread, iterator in self._reading.items() if thread.is_alive()}
            self._reading = {**still, thread: weakref.ref(iterator)}

    def _feed(self, engine: _procpool.Engine, steps: Iterator[None], iterator: IMapIterator) -> None:
        try:
            for _ in steps:
                if self._are_stopped:
                    break
        except BaseException as error:
            # The input wants to end the interpreter, or the like: whoever takes the results has to know.
            iterator._append(FailedInput(error, engine))
        iterator._end_input()

    def stop(self) -> None:
        """They read no more than what they wait for now."""
        self._are_stopped = True

    def end_iterators(self, engine: _procpool.Engine) -> None:
        """Nobody is to wait for what they wait for."""
        for reference in list(self._reading.values()):
            iterator = reference()
            if iterator is not None and iterator._length is None:
                from .errors import Terminated

                error = Terminated("the pool was terminated before all of this iterator's input was read")
                iterator._append(FailedInput(error, engine))
                iterator._end_input()

    def are_at_work(self) -> bool:
        """Whether there is input that was not read."""
        return any(thread.is_alive() for thread in self._reading)

    def join(self, deadline: Deadline) -> bool:
        """Waits until they have read all; False when the time was over first."""
        for thread in self._reading:
            thread.join(left(deadline))
        return not self.are_at_work()

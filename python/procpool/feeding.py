"""Who reads input: threads for `imap`, since nobody knows how long it takes to come, and the callers of `map`."""

from __future__ import annotations

import contextlib
import threading
import weakref

from . import _procpool
from .deadlines import left
from .submission import FailedInput

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable, Iterator, Optional, Union

    from .deadlines import Deadline
    from .iterators import IMapIterator


class Caller:
    """A thread of the program that submits the tasks of a `map`; as a thread that does nothing else."""

    def __init__(self) -> None:
        self._thread = threading.get_ident()
        self._is_over = threading.Event()

    def is_alive(self) -> bool:
        return not self._is_over.is_set()

    def is_interrupted(self) -> bool:
        """Whether whoever asks is a signal's handler in this thread, which cannot wait for it."""
        return self._thread == threading.get_ident()

    def join(self, timeout: Optional[float]) -> None:
        if not self.is_interrupted():
            self._is_over.wait(timeout)

    def end(self) -> None:
        self._is_over.set()


class Feeders:
    """Those of one pool."""

    def __init__(self) -> None:
        #: Who reads, and for whom: an iterator, which keeps its pool. Callers read for nobody else.
        self._reading: dict[Union[threading.Thread, Caller], Callable[[], Optional[IMapIterator]]] = {}
        self._lock = threading.RLock()
        self._are_stopped = False

    def feed(self, engine: _procpool.Engine, steps: Iterator[None], iterator: IMapIterator) -> None:
        """Takes all of `steps`, which give `iterator` its tasks, in a thread."""
        arguments = (engine, steps, iterator)
        thread = threading.Thread(target=self._feed, args=arguments, name="procpool-feeder", daemon=True)
        with self._lock:
            thread.start()
            self._add(thread, weakref.ref(iterator))

    @contextlib.contextmanager
    def calling(self) -> Iterator[None]:
        """While this thread submits what it reads."""
        caller = Caller()
        try:
            with self._lock:
                self._add(caller, lambda: None)
            yield
        finally:
            caller.end()

    def _add(self, reader: Union[threading.Thread, Caller], of: Callable[[], Optional[IMapIterator]]) -> None:
        # Never changed, but replaced: others may go through it.
        still = {known: of for known, of in self._reading.items() if known.is_alive()}
        self._reading = {**still, reader: of}

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
        return any(reader.is_alive() and not _is_interrupted(reader) for reader in self._reading)

    def join(self, deadline: Deadline) -> bool:
        """Waits until they have read all; False when the time was over first."""
        for reader in self._reading:
            reader.join(left(deadline))
        return not self.are_at_work()


def _is_interrupted(reader: Union[threading.Thread, Caller]) -> bool:
    return isinstance(reader, Caller) and reader.is_interrupted()

"""The rivals, each with the calls that it has, under the same names.

A call that a contender has not got raises `Missing`. Workers live as long as their contender.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from typing import Any, NoReturn, Optional

Function = Callable[[Any], Any]
#: Waits for a value.
Wait = Callable[[], Any]


class Missing(Exception):
    """This contender cannot do that; the text says why."""


class Contender:
    """What can be asked of a contender."""

    def apply(self, function: Function, argument: Any) -> Any:
        """Calls the function in a worker and waits for its value."""
        self._has_no("call of one task that waits")

    def apply_async(self, function: Function, arguments: Iterable[Any]) -> None:
        """Begins a call for each argument, then waits for all values."""
        self._has_no("apply_async")

    def map_default(self, function: Function, arguments: Iterable[Any]) -> None:
        """Maps in chunks whose size the contender chooses."""
        self._has_no("map that chooses the size of its chunks")

    def map_chunksize1(self, function: Function, arguments: Iterable[Any]) -> None:
        """Maps, each item a task of its own."""
        self._has_no("map that returns a list")

    def imap(self, function: Function, arguments: Iterable[Any]) -> Iterable[Any]:
        """Maps, and gives the values one by one, in order."""
        self._has_no("imap")

    def imap_unordered(self, function: Function, arguments: Iterable[Any]) -> Iterable[Any]:
        """Maps, and gives the values one by one, as they come."""
        self._has_no("imap_unordered")

    def submit(self, function: Function, arguments: Iterable[Any]) -> None:
        """Submits a call for each argument, then waits for the value of each future."""
        self._has_no("submit")

    def submit_roundtrip(self, function: Function, argument: Any) -> Any:
        """Submits one call, and waits for the value of its future."""
        self._has_no("submit")

    def executor_map(self, function: Function, arguments: Iterable[Any]) -> Iterable[Any]:
        """The executor's map, as it is by default."""
        self._has_no("executor")

    def begin(self, function: Function, argument: Any) -> Wait:
        """Begins a call, and gives what waits for its value."""
        self._has_no("call that goes on at once")

    def close(self) -> None:
        """Gives the workers up."""

    def _has_no(self, call: str) -> NoReturn:
        raise Missing(f"has no {call}")


class LikeMultiprocessing(Contender):
    """Pools with the calls of `multiprocessing.Pool`."""

    def __init__(self, pool: Any) -> None:
        self.pool = pool

    def apply(self, function: Function, argument: Any) -> Any:
        return self.pool.apply(function, (argument,))

    def apply_async(self, function: Function, arguments: Iterable[Any]) -> None:
        results = [self.pool.apply_async(function, (argument,)) for argument in arguments]
        for result in results:
            result.get()

    def map_default(self, function: Function, arguments: Iterable[Any]) -> None:
        self.pool.map(function, arguments)

    def map_chunksize1(self, function: Function, arguments: Iterable[Any]) -> None:
        self.pool.map(function, arguments, chunksize=1)

    def imap(self, function: Function, arguments: Iterable[Any]) -> Iterable[Any]:
        values: Iterable[Any] = self.pool.imap(function, arguments)
        return values

    def imap_unordered(self, function: Function, arguments: Iterable[Any]) -> Iterable[Any]:
        values: Iterable[Any] = self.pool.imap_unordered(function, arguments)
        return values

    def begin(self, function: Function, argument: Any) -> Wait:
        return self.pool.apply_async(function, (argument,)).get

    def close(self) -> None:
        self.pool.terminate()


class LikeExecutor(Contender):
    """Executors with the calls of `concurrent.futures.Executor`."""

    def __init__(self, executor: Any) -> None:
        self.executor = executor

    def apply(self, function: Function, argument: Any) -> Any:
        return self.submit_roundtrip(function, argument)

    def submit(self, function: Function, arguments: Iterable[Any]) -> None:
        futures = [self.executor.submit(function, argument) for argument in arguments]
        for future in futures:
            future.result()

    def submit_roundtrip(self, function: Function, argument: Any) -> Any:
        return self.executor.submit(function, argument).result()

    def executor_map(self, function: Function, arguments: Iterable[Any]) -> Iterable[Any]:
        values: Iterable[Any] = self.executor.map(function, arguments)
        return values

    def begin(self, function: Function, argument: Any) -> Wait:
        return self.executor.submit(function, argument).result

    def close(self) -> None:
        self.executor.shutdown()


class Joblib(Contender):
    """`joblib.Parallel`, which keeps its workers from call to call."""

    def __init__(self, workers: int, start_method: Optional[str]) -> None:
        if start_method is not None:
            raise Missing("chooses its own way to start processes")
        import joblib

        self._joblib = joblib
        self._workers = workers
        # One for each set of options that was asked for, all with the same workers.
        self._opened: dict[str, Any] = {}

    def _call(self, function: Function, arguments: Iterable[Any], **options: Any) -> Any:
        parallel = self._opened.get(str(options))
        if parallel is None:
            parallel = self._opened[str(options)] = self._joblib.Parallel(n_jobs=self._workers, **options)
            parallel.__enter__()
        delayed = self._joblib.delayed(function)
        return parallel(delayed(argument) for argument in arguments)

    def apply(self, function: Function, argument: Any) -> Any:
        return self._call(function, [argument])[0]

    def map_default(self, function: Function, arguments: Iterable[Any]) -> None:
        self._call(function, arguments)

    def map_chunksize1(self, function: Function, arguments: Iterable[Any]) -> None:
        self._call(function, arguments, batch_size=1)

    def imap(self, function: Function, arguments: Iterable[Any]) -> Iterable[Any]:
        values: Iterable[Any] = self._call(function, arguments, return_as="generator")
        return values

    def imap_unordered(self, function: Function, arguments: Iterable[Any]) -> Iterable[Any]:
        values: Iterable[Any] = self._call(function, arguments, return_as="generator_unordered")
        return values

    def begin(self, function: Function, argument: Any) -> Wait:
        # There is no such call: this waits.
        value = None
        with contextlib.suppress(Exception):
            value = self.apply(function, argument)
        return lambda: value

    def close(self) -> None:
        for parallel in self._opened.values():
            parallel.__exit__(None, None, None)


class Pebble(Contender):
    """`pebble.ProcessPool`."""

    def __init__(self, workers: int, start_method: Optional[str]) -> None:
        import multiprocessing

        import pebble

        self._pool = pebble.ProcessPool(workers, context=multiprocessing.get_context(start_method))

    def apply(self, function: Function, argument: Any) -> Any:
        return self.submit_roundtrip(function, argument)

    def submit(self, function: Function, arguments: Iterable[Any]) -> None:
        futures = [self._pool.schedule(function, [argument]) for argument in arguments]
        for future in futures:
            future.result()

    def submit_roundtrip(self, function: Function, argument: Any) -> Any:
        return self._pool.schedule(function, [argument]).result()

    def executor_map(self, function: Function, arguments: Iterable[Any]) -> Iterable[Any]:
        values: Iterable[Any] = self._pool.map(function, arguments).result()
        return values

    def begin(self, function: Function, argument: Any) -> Wait:
        return self._pool.schedule(function, [argument]).result

    def close(self) -> None:
        self._pool.stop()
        self._pool.join()


class Mpire(Contender):
    """`mpire.WorkerPool`, which is told to keep its workers from call to call."""

    def __init__(self, workers: int, start_method: Optional[str]) -> None:
        import mpire

        self._pool = mpire.WorkerPool(workers, start_method=start_method or "fork", keep_alive=True)

    def apply(self, function: Function, argument: Any) -> Any:
        return self._pool.apply(function, (argument,))

    def apply_async(self, function: Function, arguments: Iterable[Any]) -> None:
        results = [self._pool.apply_async(function, (argument,)) for argument in arguments]
        for result in results:
            result.get()

    def map_default(self, function: Function, arguments: Iterable[Any]) -> None:
        self._pool.map(function, arguments)

    def map_chunksize1(self, function: Function, arguments: Iterable[Any]) -> None:
        self._pool.map(function, arguments, chunk_size=1)

    def imap(self, function: Function, arguments: Iterable[Any]) -> Iterable[Any]:
        values: Iterable[Any] = self._pool.imap(function, arguments, chunk_size=1)
        return values

    def imap_unordered(self, function: Function, arguments: Iterable[Any]) -> Iterable[Any]:
        values: Iterable[Any] = self._pool.imap_unordered(function, arguments, chunk_size=1)
        return values

    def begin(self, function: Function, argument: Any) -> Wait:
        return self._pool.apply_async(function, (argument,)).get

    def close(self) -> None:
        self._pool.terminate()


def procpool_pool(workers: int, start_method: Optional[str]) -> Contender:
    import multiprocessing

    from procpool import Pool

    return LikeMultiprocessing(Pool(workers, context=multiprocessing.get_context(start_method)))


def procpool_executor(workers: int, start_method: Optional[str]) -> Contender:
    import multiprocessing

    from procpool import ProcessPoolExecutor

    return LikeExecutor(ProcessPoolExecutor(workers, multiprocessing.get_context(start_method)))


def standard_pool(workers: int, start_method: Optional[str]) -> Contender:
    import multiprocessing

    return LikeMultiprocessing(multiprocessing.get_context(start_method).Pool(workers))


def standard_executor(workers: int, start_method: Optional[str]) -> Contender:
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor

    return LikeExecutor(ProcessPoolExecutor(workers, multiprocessing.get_context(start_method)))


def loky(workers: int, start_method: Optional[str]) -> Contender:
    from loky import ProcessPoolExecutor
    from loky.backend import get_context

    return LikeExecutor(ProcessPoolExecutor(workers, context=get_context(start_method or "loky")))


def billiard(workers: int, start_method: Optional[str]) -> Contender:
    import billiard

    return LikeMultiprocessing(billiard.get_context(start_method).Pool(workers))


def thread_pool(workers: int, start_method: Optional[str]) -> Contender:
    if start_method is not None:
        raise Missing("starts threads")
    from multiprocessing.pool import ThreadPool

    return LikeMultiprocessing(ThreadPool(workers))


def thread_executor(workers: int, start_method: Optional[str]) -> Contender:
    if start_method is not None:
        raise Missing("starts threads")
    from concurrent.futures import ThreadPoolExecutor

    return LikeExecutor(ThreadPoolExecutor(workers))


#: Opens a contender with so many workers, and a start method (None: the contender's own choice).
Open = Callable[[int, Optional[str]], Contender]

POOLS: dict[str, Open] = {
    "procpool": procpool_pool,
    "multiprocessing": standard_pool,
    "concurrent.futures": standard_executor,
    "loky": loky,
    "joblib": Joblib,
    "pebble": Pebble,
    "billiard": billiard,
    "mpire": Mpire,
    "ThreadPool": thread_pool,
}

#: Where futures are asked for. ThreadPool stands for threads: here it is ThreadPoolExecutor.
EXECUTORS: dict[str, Open] = {
    **POOLS,
    "procpool": procpool_executor,
    "ThreadPool": thread_executor,
}

#: What a program writes to have it.
IMPORTS = {
    "procpool": "from procpool import Pool",
    "multiprocessing": "from multiprocessing.pool import Pool",
    "concurrent.futures": "from concurrent.futures import ProcessPoolExecutor",
    "loky": "from loky import get_reusable_executor",
    "joblib": "from joblib import Parallel",
    "pebble": "from pebble import ProcessPool",
    "billiard": "from billiard.pool import Pool",
    "mpire": "from mpire import WorkerPool",
}

NAMES = [*POOLS, "memcpy"]

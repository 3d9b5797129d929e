"""The pools, each with the calls that it has, under the same names. A new one is a class here, and its name in `ALL`.

Each is made as its documentation shows it, by its defaults. A call that it has not got raises `Missing`.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from concurrent.futures import Future
from typing import Any, Callable, Iterable, Iterator, Optional, Sequence

import tasks
from peer import Function, Handle, Peer, in_thread

#: What iterators may read ahead of the results that were taken, where the caller can say so.
AHEAD = 8


# ---- like multiprocessing.Pool ----


class LikePool(Peer):
    call = "apply_async"

    def submit(self, function: Function, item: Any, **options: Any) -> Any:
        result = self.pool.apply_async(function, (item,), **options)
        return Handle(result.ready, result.get)

    def submit_with_callback(self, function: Function, item: Any, callback: Callable[[Any], None]) -> Any:
        return self.submit(function, item, callback=callback)

    def map(self, function: Function, items: Iterable[Any]) -> list[Any]:
        return list(self.pool.map(function, items, 1))

    def read(self, function: Function, items: Iterator[Any]) -> Iterator[Any]:
        return iter(self.pool.imap(function, items))

    def terminate(self) -> None:
        self.pool.terminate()
        self.pool.join()


class ProcpoolPool(LikePool):
    name = "procpool.Pool"

    def __init__(self, workers: int = 2, initializer: Optional[Callable[[], None]] = None) -> None:
        from procpool import Pool

        self.pool = Pool(workers, initializer)

    @classmethod
    def version(cls) -> str:
        return "of this checkout"

    def read(self, function: Function, items: Iterator[Any]) -> Iterator[Any]:
        return iter(self.pool.imap(function, items, buffersize=AHEAD))


class StandardPool(LikePool):
    name = "multiprocessing"

    def __init__(self, workers: int = 2, initializer: Optional[Callable[[], None]] = None) -> None:
        from multiprocessing import Pool

        self.pool = Pool(workers, initializer)


class Billiard(LikePool):
    name = distribution = "billiard"

    def __init__(self, workers: int = 2, initializer: Optional[Callable[[], None]] = None) -> None:
        from billiard import Pool

        self.pool = Pool(workers, initializer)


class Multiprocess(LikePool):
    name = distribution = "multiprocess"

    def __init__(self, workers: int = 2, initializer: Optional[Callable[[], None]] = None) -> None:
        from multiprocess import Pool

        self.pool = Pool(workers, initializer)


class Mpire(LikePool):
    name = distribution = "mpire"

    def __init__(self, workers: int = 2, initializer: Optional[Callable[[], None]] = None) -> None:
        from mpire import WorkerPool

        self.pool = WorkerPool(workers)
        self._options = {"worker_init": initializer} if initializer else {}

    def submit(self, function: Function, item: Any, **options: Any) -> Any:
        return super().submit(function, item, **self._options, **options)

    def map(self, function: Function, items: Iterable[Any]) -> list[Any]:
        return list(self.pool.map(function, items, chunk_size=1))

    def read(self, function: Function, items: Iterator[Any]) -> Iterator[Any]:
        return iter(self.pool.imap(function, items, chunk_size=1))

    def terminate(self) -> None:
        self.pool.terminate()


# ---- like concurrent.futures.ProcessPoolExecutor ----


class LikeExecutor(Peer):
    call = "submit"

    def submit(self, function: Function, item: Any) -> Any:
        return self.pool.submit(function, item)

    def submit_with_callback(self, function: Function, item: Any, callback: Callable[[Any], None]) -> Any:
        future = self.submit(function, item)
        future.add_done_callback(callback)
        return future

    def map(self, function: Function, items: Iterable[Any]) -> list[Any]:
        return list(self.pool.map(function, items))

    def read(self, function: Function, items: Iterator[Any]) -> Iterator[Any]:
        return iter(self.pool.map(function, items))


class ProcpoolExecutor(LikeExecutor):
    name = "procpool.ProcessPoolExecutor"

    def __init__(self, workers: int = 2, initializer: Optional[Callable[[], None]] = None) -> None:
        from procpool import ProcessPoolExecutor

        self.pool = ProcessPoolExecutor(workers, initializer=initializer)

    @classmethod
    def version(cls) -> str:
        return "of this checkout"

    def read(self, function: Function, items: Iterator[Any]) -> Iterator[Any]:
        return iter(self.pool.map(function, items, buffersize=AHEAD))

    def terminate(self) -> None:
        self.pool.terminate_workers()
        self.pool.shutdown()


class StandardExecutor(LikeExecutor):
    name = "concurrent.futures"

    def __init__(self, workers: int = 2, initializer: Optional[Callable[[], None]] = None) -> None:
        from concurrent.futures import ProcessPoolExecutor

        self.pool = ProcessPoolExecutor(workers, initializer=initializer)

    def read(self, function: Function, items: Iterator[Any]) -> Iterator[Any]:
        try:
            return iter(self.pool.map(function, items, buffersize=AHEAD))
        except TypeError:
            # Before 3.14.
            return super().read(function, items)

    @classmethod
    def can_terminate(cls) -> bool:
        return sys.version_info >= (3, 14)

    def terminate(self) -> None:
        self.pool.terminate_workers()
        self.pool.shutdown()


class Loky(LikeExecutor):
    name = distribution = "loky"

    def __init__(self, workers: int = 2, initializer: Optional[Callable[[], None]] = None) -> None:
        from loky import ProcessPoolExecutor

        self.pool = ProcessPoolExecutor(workers, initializer=initializer)

    def terminate(self) -> None:
        self.pool.shutdown(kill_workers=True)


class Pebble(LikeExecutor):
    name = distribution = "pebble"
    call = "schedule"

    def __init__(self, workers: int = 2, initializer: Optional[Callable[[], None]] = None) -> None:
        from pebble import ProcessPool

        self.pool = ProcessPool(workers, initializer=initializer)

    def submit(self, function: Function, item: Any) -> Any:
        return self.pool.schedule(function, args=[item])

    def map(self, function: Function, items: Iterable[Any]) -> list[Any]:
        return list(self.pool.map(function, items).result())

    def read(self, function: Function, items: Iterator[Any]) -> Iterator[Any]:
        return iter(self.pool.map(function, items).result())

    def terminate(self) -> None:
        self.pool.stop()
        self.pool.join()


# ---- others ----


class Joblib(Peer):
    """It has one call, for many tasks, which waits. Here a call is the six tasks of a row."""

    name = distribution = "joblib"
    call = "Parallel"
    waits = True

    def __init__(self, workers: int = 2, initializer: Optional[Callable[[], None]] = None) -> None:
        # One worker is none: tasks run in the program itself then.
        self._options: dict[str, Any] = {"n_jobs": max(2, workers)}
        if initializer is not None:
            self._options["initializer"] = initializer

    def begin(self, function: Function, items: Sequence[Any]) -> list[Any]:
        call = in_thread(self.map, function, items)
        return [Handle(call.done, lambda index=index: call.result()[index]) for index in range(len(items))]

    def map(self, function: Function, items: Iterable[Any]) -> list[Any]:
        return list(self._call(function, items))

    def read(self, function: Function, items: Iterator[Any]) -> Iterator[Any]:
        return iter(self._call(function, items, return_as="generator"))

    def map_in_a_program(self, function: Function, items: Iterable[Any]) -> None:
        self.map(function, items)

    def _call(self, function: Function, items: Iterable[Any], **options: Any) -> Any:
        from joblib import Parallel, delayed

        return Parallel(**self._options, **options)(delayed(function)(item) for item in items)


class Aiomultiprocess(Peer):
    """It wants coroutines and a running loop, which has a thread here."""

    name = distribution = "aiomultiprocess"
    call = "apply"
    # A worker takes up to sixteen coroutines at a time, and ours do not give way to each other.
    at_once = 1

    def __init__(self, workers: int = 2, initializer: Optional[Callable[[], None]] = None) -> None:
        self._arguments = (workers, initializer)
        self._loop: Optional[asyncio.AbstractEventLoop] = None

    def _in_loop(self, work: Callable[[], Any]) -> Future[Any]:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            threading.Thread(target=self._loop.run_forever, daemon=True).start()
            self.pool = asyncio.run_coroutine_threadsafe(self._made(), self._loop).result()

        async def run() -> Any:
            return await work()

        return asyncio.run_coroutine_threadsafe(run(), self._loop)

    async def _made(self) -> Any:
        from aiomultiprocess import Pool

        return Pool(*self._arguments)

    def submit(self, function: Function, item: Any) -> Any:
        return self._in_loop(lambda: self.pool.apply(tasks.in_coroutine, (function, item)))

    def map(self, function: Function, items: Iterable[Any]) -> list[Any]:
        return self._in_loop(lambda: self._map(self.pool, function, items)).result()

    async def _map(self, pool: Any, function: Function, items: Iterable[Any]) -> list[Any]:
        return list(await pool.starmap(tasks.in_coroutine, ((function, item) for item in items)))

    def read(self, function: Function, items: Iterator[Any]) -> Iterator[Any]:
        async def first() -> Any:
            async for value in self.pool.starmap(tasks.in_coroutine, ((function, item) for item in items)):
                return value

        return iter([self._in_loop(first).result()])

    def terminate(self) -> None:
        async def end() -> None:
            self.pool.terminate()
            await self.pool.join()

        self._in_loop(end).result()

    def map_in_a_program(self, function: Function, items: Iterable[Any]) -> None:
        async def main() -> None:
            async with await self._made() as pool:
                await self._map(pool, function, items)

        asyncio.run(main())


class Warmpool(Peer):
    """It has one worker, and one call, which waits: the tasks of a row are called one after the other, in a thread."""

    name = distribution = "warmpool"
    call = "run"
    at_once = 1
    waits = True

    def __init__(self, workers: int = 2, initializer: Optional[Callable[[], None]] = None) -> None:
        from warmpool import WarmPool

        # By default it waits for half a minute, twice, before it says that its worker does not get ready.
        self.pool = WarmPool(warming=initializer, ready_timeout=5)

    def begin(self, function: Function, items: Sequence[Any]) -> list[Any]:
        futures: list[Future[Any]] = [Future() for _ in items]

        def run_each() -> None:
            for future, item in zip(futures, items):
                try:
                    future.set_result(self._run(function, item))
                except BaseException as error:
                    future.set_exception(error)

        in_thread(run_each)
        return list(futures)

    def map_in_a_program(self, function: Function, items: Iterable[Any]) -> None:
        for item in items:
            self._run(function, item)

    def _run(self, function: Function, item: Any) -> Any:
        return self.pool.run(tasks.called, tasks.LONG, call=function, item=item)


ALL: dict[str, type[Peer]] = {
    peer.name: peer
    for peer in (
        ProcpoolPool,
        ProcpoolExecutor,
        StandardPool,
        StandardExecutor,
        Loky,
        Joblib,
        Pebble,
        Mpire,
        Billiard,
        Multiprocess,
        Aiomultiprocess,
        Warmpool,
    )
}

#: Those whose cells must be on target.
OURS = (ProcpoolPool, ProcpoolExecutor)

"""Futures among others: `wait`, `as_completed`, asyncio, and executors of other kinds beside."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import (
    ALL_COMPLETED,
    FIRST_COMPLETED,
    FIRST_EXCEPTION,
    ThreadPoolExecutor,
    TimeoutError as FuturesTimeoutError,
    as_completed,
    wait,
)
from concurrent.futures._base import _AllCompletedWaiter
from concurrent.futures.process import ProcessPoolExecutor as StandardExecutor
from typing import Any

import procpool
import procpool.futures
import pytest
import tasks
from programs import run
from waiting import LONG, wait_until


@pytest.fixture
def gate(tmp_path: Any) -> Any:
    """A file that tasks wait for."""
    return tmp_path / "gate"


def test_wait_for_all(executor: procpool.ProcessPoolExecutor) -> None:
    futures = [executor.submit(tasks.square, number) for number in range(50)]
    done, pending = wait(futures, LONG, ALL_COMPLETED)
    assert done == set(futures) and not pending


def test_wait_for_the_first(executor: procpool.ProcessPoolExecutor, gate: Any) -> None:
    slow, fast = executor.submit(tasks.wait_for_file, str(gate)), executor.submit(tasks.square, 3)
    done, pending = wait([slow, fast], LONG, FIRST_COMPLETED)
    assert (done, pending) == ({fast}, {slow})
    assert wait([slow], 0.02) == (set(), {slow})
    gate.touch()
    assert wait([slow, fast], LONG) == ({slow, fast}, set())


def test_wait_for_the_first_exception(executor: procpool.ProcessPoolExecutor, gate: Any) -> None:
    slow, bad = executor.submit(tasks.wait_for_file, str(gate)), executor.submit(tasks.fail)
    done, pending = wait([slow, bad], LONG, FIRST_EXCEPTION)
    assert (done, pending) == ({bad}, {slow})
    gate.touch()


def test_wait_sees_deaths(executor: procpool.ProcessPoolExecutor, gate: Any) -> None:
    slow, lost = executor.submit(tasks.wait_for_file, str(gate)), executor.submit(tasks.killed, tasks.BAD)
    assert wait([slow, lost], LONG, FIRST_EXCEPTION) == ({lost}, {slow})
    gate.touch()


def test_wait_sees_cancellation_by_another_thread(gate: Any) -> None:
    with procpool.ProcessPoolExecutor(1) as executor:
        running = executor.submit(tasks.wait_for_file, str(gate))
        queued = executor.submit(tasks.same, 1)
        canceller = threading.Timer(0.1, queued.cancel)
        canceller.start()
        assert wait([running, queued], LONG, FIRST_COMPLETED) == ({queued}, {running})
        canceller.join()
        gate.touch()


def test_as_completed(executor: procpool.ProcessPoolExecutor, gate: Any) -> None:
    futures = [executor.submit(tasks.square, number) for number in range(50)]
    assert sorted(future.result() for future in as_completed(futures, LONG)) == [n * n for n in range(50)]
    slow = executor.submit(tasks.wait_for_file, str(gate))
    with pytest.raises(FuturesTimeoutError):
        list(as_completed([slow, futures[0]], 0.05))
    gate.touch()
    assert list(as_completed([slow, slow], LONG)) == [slow]


def test_what_ends_while_somebody_begins_to_wait_is_waited_for(
    executor: procpool.ProcessPoolExecutor, gate: Any
) -> None:
    future: Any = executor.submit(tasks.wait_for_file, str(gate))
    # As `wait` and `as_completed` do, which then look twice.
    with future._condition:
        assert future._state not in ("FINISHED", "CANCELLED_AND_NOTIFIED")
        gate.touch()
        wait_until(future._task.is_ended, "the task ends")
        assert future._state not in ("FINISHED", "CANCELLED_AND_NOTIFIED")
        future._waiters.append(waiter := _AllCompletedWaiter(1, stop_on_exception=False))
    assert waiter.event.wait(LONG) and waiter.finished_futures == [future]
    assert repr(future).endswith("state=finished returned NoneType>")


def test_what_could_not_be_sent_is_done_also_after_shutdown() -> None:
    executor = procpool.ProcessPoolExecutor(1)
    futures = [executor.submit(tasks.same, argument) for argument in (1, threading.Lock(), 2)]
    executor.shutdown()
    assert wait(futures, LONG).not_done == set()
    assert set(as_completed(futures, LONG)) == set(futures)
    assert [future.exception() is None for future in futures] == [True, False, True]


def test_a_future_whose_result_another_thread_takes_is_waited_for(
    executor: procpool.ProcessPoolExecutor, gate: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    future = executor.submit(tasks.wait_for_file, str(gate))
    notice = procpool.futures.Future._notice

    def let_another_take_it(self: Any) -> None:
        gate.touch()
        taker = threading.Thread(target=self.result)
        taker.start()
        taker.join(LONG)
        notice(self)

    monkeypatch.setattr(procpool.futures.Future, "_notice", let_another_take_it)
    assert wait([future], LONG).done == {future}


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_callbacks_are_called_though_their_thread_could_not_be_started_once(
    error: type[BaseException], gate: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with procpool.ProcessPoolExecutor(1) as executor:
        first = executor.submit(tasks.wait_for_file, str(gate))
        with monkeypatch.context() as context:

            def fail(thread: threading.Thread) -> None:
                raise error("can't start new thread")

            context.setattr(threading.Thread, "start", fail)
            with pytest.raises(error):
                wait([first], LONG)
        called = threading.Event()
        first.add_done_callback(lambda _: called.set())
        gate.touch()
        assert called.wait(LONG) and wait([first], LONG).done == {first}


def test_a_callback_that_would_end_the_thread_ends_no_other_callback(tmp_path: Any) -> None:
    program = """
        import concurrent.futures, procpool, sys, tasks

        def interrupt(future):
            raise KeyboardInterrupt("told of")

        if __name__ == "__main__":
            executor = procpool.ProcessPoolExecutor(1)
            # Threads leave without a word by the one, and with a traceback by the other.
            for gate, end in [("one", lambda future: sys.exit()), ("other", interrupt)]:
                executor.submit(tasks.wait_for_file, gate).add_done_callback(end)
                future = executor.submit(abs, -2)
                future.add_done_callback(lambda future: sys.stdout.write("called\\n"))
                open(gate, "w").close()
                sys.stdout.write(f"{len(concurrent.futures.wait([future]).done)}\\n")
    """
    finished = run(tmp_path, program)
    assert sorted(finished.check().splitlines()) == ["1", "1", "called", "called"]
    assert finished.errors.count("Traceback") == 1 and "KeyboardInterrupt: told of" in finished.errors, finished.errors


def test_futures_of_several_executors_together(executor: procpool.ProcessPoolExecutor) -> None:
    with ThreadPoolExecutor(1) as threads, StandardExecutor(1) as standard:
        futures = [each.submit(tasks.square, number) for number in range(10) for each in (executor, threads, standard)]
        assert wait(futures, LONG).not_done == set()
        assert sorted(future.result() for future in as_completed(futures, LONG)) == sorted(
            number * number for number in range(10) for _ in range(3)
        )


def test_a_callback_may_submit(executor: procpool.ProcessPoolExecutor) -> None:
    done: list[int] = []

    def again(future: Any) -> None:
        done.append(future.result())
        if future.result() < 20:
            executor.submit(tasks.add, future.result(), 1).add_done_callback(again)

    executor.submit(tasks.same, 0).add_done_callback(again)
    wait_until(lambda: done and done[-1] == 20, "twenty tasks, each by the callback of the one before")


def test_a_callback_of_a_cancelled_future_is_called(gate: Any) -> None:
    called: list[Any] = []
    with procpool.ProcessPoolExecutor(1) as executor:
        executor.submit(tasks.wait_for_file, str(gate))
        queued = executor.submit(tasks.same, 1)
        queued.add_done_callback(called.append)
        assert queued.cancel()
        assert called == [queued]
        gate.touch()
    assert called == [queued]


# ---- asyncio ----


def test_asyncio_waits_for_futures(executor: procpool.ProcessPoolExecutor) -> None:
    async def main() -> list[int]:
        loop = asyncio.get_running_loop()
        wrapped = [asyncio.wrap_future(executor.submit(tasks.square, number)) for number in range(20)]
        run = [loop.run_in_executor(executor, tasks.square, number) for number in range(20)]
        return await asyncio.gather(*wrapped, *run)

    assert asyncio.run(main()) == [number * number for number in range(20)] * 2


def test_asyncio_gets_exceptions(executor: procpool.ProcessPoolExecutor) -> None:
    async def main() -> list[Any]:
        loop = asyncio.get_running_loop()
        calls = [(tasks.fail,), (tasks.killed, tasks.BAD), (tasks.same, 1)]
        futures = [loop.run_in_executor(executor, *call) for call in calls]
        return await asyncio.gather(*futures, return_exceptions=True)

    assert [type(outcome) for outcome in asyncio.run(main())] == [ValueError, procpool.WorkerDied, int]


def test_asyncio_cancels_what_has_not_begun(gate: Any) -> None:
    with procpool.ProcessPoolExecutor(1) as executor:

        async def main() -> Any:
            loop = asyncio.get_running_loop()
            first = loop.run_in_executor(executor, tasks.wait_for_file, str(gate), 1)
            future = executor.submit(tasks.same, 2)
            second = asyncio.wrap_future(future)
            await asyncio.sleep(0)
            second.cancel()
            with pytest.raises(asyncio.CancelledError):
                await second
            # Not before asyncio has passed it on, at the loop's next turn: else the worker may begin it.
            await asyncio.sleep(0)
            gate.touch()
            return await first, future

        first, future = asyncio.run(main())
        assert first == 1 and future.cancelled()


def test_asyncio_timeouts(executor: procpool.ProcessPoolExecutor, gate: Any) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(loop.run_in_executor(executor, tasks.wait_for_file, str(gate)), 0.1)
        gate.touch()
        assert await asyncio.wait_for(loop.run_in_executor(executor, tasks.square, 3), LONG) == 9

    asyncio.run(main())


def test_results_of_a_pool_can_be_awaited(pool: procpool.Pool) -> None:
    called: list[Any] = []

    async def main() -> Any:
        one = pool.apply_async(tasks.square, (3,))
        many = pool.map_async(tasks.square, range(10))
        told = pool.apply_async(tasks.square, (4,), callback=called.append)
        assert await told == 16 and called == [16]
        return await one, await many, await one

    assert asyncio.run(main()) == (9, [number * number for number in range(10)], 9)


def test_awaiting_raises_what_the_task_raised(pool: procpool.Pool) -> None:
    async def main() -> None:
        with pytest.raises(ValueError, match="as expected"):
            await pool.apply_async(tasks.fail)
        with pytest.raises(procpool.WorkerDied):
            await pool.map_async(tasks.killed, range(4), 1)
        results = [pool.apply_async(tasks.same_slowly, (number,)) for number in range(20)]

        async def wait_for(result: Any) -> Any:
            return await result

        assert await asyncio.gather(*map(wait_for, results)) == list(range(20))

    asyncio.run(main())


def test_the_loop_runs_on_while_a_result_is_awaited(pool: procpool.Pool, gate: Any) -> None:
    async def main() -> Any:
        async def open_the_gate() -> None:
            await asyncio.sleep(0.02)
            gate.touch()

        opener = asyncio.ensure_future(open_the_gate())
        value = await pool.apply_async(tasks.wait_for_file, (str(gate), "through"))
        await opener
        return value

    assert asyncio.run(main()) == "through"


def test_a_cancelled_await_leaves_the_task_alone(pool: procpool.Pool, gate: Any) -> None:
    async def main() -> Any:
        result = pool.apply_async(tasks.wait_for_file, (str(gate), 1))

        async def wait_for() -> Any:
            return await result

        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(wait_for(), 0.05)
        gate.touch()
        return await result

    assert asyncio.run(main()) == 1

"""Births and deaths of workers when something else goes wrong at that moment."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import procpool
import pytest
import tasks
from procpool import crew
from programs import run
from waiting import wait_until


def test_a_worker_that_dies_while_another_is_buried_is_buried_too(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = procpool.Pool(2)
    first, second = [process.pid for process in pool._pool]
    buried: list[int] = []
    exitcode_of = crew._exitcode_of

    def look_slowly(process: Any) -> Any:
        buried.append(process.pid)
        if process.pid == first:
            os.kill(second, signal.SIGKILL)
            # The engine does not wait for ever to be told how somebody died.
            wait_until(lambda: second not in [worker.pid for worker in pool.stats().workers], "the engine knows")
        return exitcode_of(process)

    monkeypatch.setattr(crew, "_exitcode_of", look_slowly)
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: second in buried, "both are buried")
    assert pool.map(tasks.square, range(4), 1) == [0, 1, 4, 9]
    pool.close()
    pool.join()


@pytest.mark.parametrize("kind", ["Pool", "ProcessPoolExecutor"])
def test_how_a_worker_died_is_not_made_up_when_its_fork_server_died_first(tmp_path: Path, kind: str) -> None:
    finished = run(
        tmp_path,
        f"""
        import multiprocessing, os, signal, procpool, tasks
        from multiprocessing import forkserver

        def apply(function, *arguments):
            if isinstance(pool, procpool.Pool):
                return pool.apply(function, arguments)
            return pool.submit(function, *arguments).result()

        if __name__ == "__main__":
            pool = procpool.{kind}(1, multiprocessing.get_context("forkserver"))
            pid = apply(os.getpid)
            os.kill(forkserver._forkserver._forkserver_pid, signal.SIGKILL)
            try:
                apply(tasks.killed, 2)
            except procpool.WorkerDied as death:
                print(death.pid == pid, death.signal, death.exitcode, str(death).split(",")[0].split(" ", 2)[2])
            print(apply(tasks.square, 3))
            pool.terminate() if hasattr(pool, "terminate") else pool.shutdown()
        """.replace("Pool(1, multi", "Pool(1, context=multi"),
    )
    assert finished.check() == "True None None died\n9\n" and "Traceback" not in finished.errors, finished

"""Births and deaths of workers when something else goes wrong at that moment."""

from __future__ import annotations

from pathlib import Path

import pytest
from programs import run


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

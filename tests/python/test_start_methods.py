"""What workers inherit, by each start method."""

from __future__ import annotations

import multiprocessing
import os
import sys
import warnings
from multiprocessing import resource_sharer
from typing import Any

import procpool
import pytest
import tasks
from programs import run
from waiting import LONG


def test_globals_are_inherited_by_fork_alone(context: Any, start_method: str, monkeypatch: Any) -> None:
    monkeypatch.setattr(tasks, "inherited", "from the parent")
    with procpool.Pool(1, context=context) as pool:
        assert pool.apply(tasks.get_inherited) == ("from the parent" if start_method == "fork" else None)
    pool.join()


def test_locks_and_queues_are_given_by_the_initializer(context: Any) -> None:
    lock, queue, value = context.Lock(), context.SimpleQueue(), context.Value("i", 0)
    with procpool.Pool(2, tasks.set_inherited, (lock, queue, value), context=context) as pool:
        assert pool.map(tasks.count_under_lock, range(20), 1) == [None] * 20
        assert value.value == 20
        assert sorted(queue.get() for _ in range(20)) == list(range(20))
    pool.join()
    queue.close()


def test_locks_cannot_be_given_as_arguments(context: Any) -> None:
    with procpool.Pool(1, context=context) as pool:
        with pytest.raises(RuntimeError, match="should only be shared between processes through inheritance"):
            pool.apply(tasks.same, (context.Lock(),))
    pool.join()


def test_initializers_of_executors_get_locks_too(context: Any) -> None:
    lock, queue, value = context.Lock(), context.SimpleQueue(), context.Value("i", 0)
    with procpool.ProcessPoolExecutor(2, context, tasks.set_inherited, (lock, queue, value)) as executor:
        list(executor.map(tasks.count_under_lock, range(20)))
    assert value.value == 20
    queue.close()


def test_sys_path_arrives(context: Any, tmp_path: Any, monkeypatch: Any) -> None:
    (tmp_path / "found_only_here.py").write_text("def answer():\n    return 42\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    import found_only_here  # type: ignore[import-not-found]

    with procpool.Pool(1, context=context) as pool:
        assert str(tmp_path) in pool.apply(tasks.path)
        assert pool.apply(found_only_here.answer) == 42
    pool.join()
    del sys.modules["found_only_here"]


def test_the_working_folder_and_the_environment_arrive(context: Any, tmp_path: Any, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PROCPOOL_TEST", "set")
    with procpool.Pool(1, context=context) as pool:
        assert pool.apply(os.getcwd) == str(tmp_path)
        # A fork server has the environment of its own start.
        if context.get_start_method() != "forkserver":
            assert pool.apply(os.getenv, ("PROCPOOL_TEST",)) == "set"
    pool.join()


def test_command_line_and_name_arrive(context: Any) -> None:
    with procpool.Pool(1, context=context) as pool:
        assert pool.apply(tasks.command_line) == sys.argv
        assert pool.apply(tasks.process_name) == pool._pool[0].name
        assert pool.apply(tasks.parent_pid) == os.getpid()
    pool.join()


def test_workers_are_daemons_in_pools_and_not_in_executors(context: Any) -> None:
    with procpool.Pool(1, context=context) as pool:
        assert pool.apply(tasks.is_daemon) is True
    pool.join()
    with procpool.ProcessPoolExecutor(1, context) as executor:
        assert executor.submit(tasks.is_daemon).result(LONG) is False


def test_names_count_on(context: Any) -> None:
    with procpool.Pool(1, context=context, maxtasksperchild=1) as pool:
        names = pool.map(tasks.process_name, range(3), 1)
    pool.join()
    numbers = [int(name.rpartition("-")[2]) for name in names]
    assert numbers == sorted(set(numbers)), names


def test_warnings_filters_are_inherited_as_in_the_standard_library(context: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", FutureWarning)
        with procpool.Pool(1, context=context) as pool, context.Pool(1) as standard:
            assert pool.apply(tasks.filters) == standard.apply(tasks.filters)
        pool.join()
        standard.join()


def test_warnings_options_of_the_command_line_arrive(tmp_path: Any, start_method: str) -> None:
    source = tmp_path / "warner.py"
    source.write_text(
        f"""
import warnings, multiprocessing, procpool

def warn():
    try:
        warnings.warn("a warning", UserWarning)
    except UserWarning:
        return "raised"

if __name__ == "__main__":
    with procpool.Pool(1, context=multiprocessing.get_context("{start_method}")) as pool:
        print(pool.apply(warn))
"""
    )
    from programs import Program

    program = Program("-W", "error::UserWarning", str(source))
    assert program.finish().check() == "raised\n"


def test_functions_and_classes_of_the_main_module_are_found(tmp_path: Any, start_method: str) -> None:
    finished = run(
        tmp_path,
        f"""
        import multiprocessing, procpool
        print("imported as", __name__)

        class Pair:
            def __init__(self, a, b):
                self.a, self.b = a, b

        def swap(pair):
            return Pair(pair.b, pair.a)

        if __name__ == "__main__":
            context = multiprocessing.get_context("{start_method}")
            with procpool.Pool(2, context=context) as pool:
                swapped = pool.map(swap, [Pair(1, 2), Pair(3, 4)])
            with procpool.ProcessPoolExecutor(1, context) as executor:
                swapped.append(executor.submit(swap, Pair(5, 6)).result())
            print([(pair.a, pair.b, type(pair) is Pair) for pair in swapped])
        """,
    )
    lines = finished.check().splitlines()
    assert lines[-1] == "[(2, 1, True), (4, 3, True), (6, 5, True)]"
    if start_method != "fork":
        assert "imported as __mp_main__" in lines


def test_a_main_module_without_a_guard_is_told_about(tmp_path: Any) -> None:
    finished = run(
        tmp_path,
        """
        import multiprocessing, procpool, tasks
        pool = procpool.Pool(1, context=multiprocessing.get_context("spawn"))
        try:
            print(pool.apply_async(tasks.square, (3,)).get(50))
        finally:
            pool.terminate()
            pool.join()
        """,
    )
    assert finished.status != 0 and "__main__" in finished.errors, finished


def test_the_default_is_the_interpreters(tmp_path: Any) -> None:
    finished = run(
        tmp_path,
        """
        import multiprocessing, procpool, sys, tasks

        if __name__ == "__main__":
            with procpool.Pool(1) as pool:
                print(pool.apply(tasks.process_name).split("PoolWorker")[0].lower(), multiprocessing.get_start_method())
        """,
    )
    name, default = finished.check().split()
    assert name == default


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_the_default_can_be_set(tmp_path: Any, method: str) -> None:
    finished = run(
        tmp_path,
        f"""
        import multiprocessing, procpool, tasks

        if __name__ == "__main__":
            multiprocessing.set_start_method("{method}")
            with procpool.Pool(1) as pool, procpool.ProcessPoolExecutor(1) as executor:
                print(pool.apply(tasks.process_name).lower(), executor.submit(tasks.process_name).result().lower())
        """,
    )
    pool, executor = finished.check().split()
    assert pool.startswith(method) and executor.startswith(method)


def test_a_fork_server_preloads(tmp_path: Any) -> None:
    (tmp_path / "preloaded.py").write_text(
        "import os\npid = os.getpid()\n\ndef where():\n    return pid, os.getpid()\n"
    )
    finished = run(
        tmp_path,
        """
        import multiprocessing, procpool, preloaded

        if __name__ == "__main__":
            context = multiprocessing.get_context("forkserver")
            context.set_forkserver_preload(["preloaded"])
            with procpool.Pool(1, context=context) as pool:
                loaded_in, ran_in = pool.apply(preloaded.where)
            print(loaded_in != ran_in and loaded_in != preloaded.pid)
        """,
    )
    assert finished.check() == "True\n"


def test_the_executable_can_be_set(tmp_path: Any) -> None:
    wrapper = tmp_path / "wrapper"
    wrapper.write_text(f'#!/bin/sh\nPROCPOOL_WRAPPED=yes exec {sys.executable} "$@"\n')
    wrapper.chmod(0o755)
    context = multiprocessing.get_context("spawn")
    before = multiprocessing.spawn.get_executable()
    try:
        context.set_executable(str(wrapper))
        with procpool.Pool(1, context=context) as pool:
            assert pool.apply(os.getenv, ("PROCPOOL_WRAPPED",)) == "yes"
        pool.join()
    finally:
        context.set_executable(before)


def test_managers_and_their_proxies_can_be_arguments(context: Any) -> None:
    with context.Manager() as manager, procpool.Pool(2, context=context) as pool:
        shared = manager.dict()
        pool.starmap(tasks.put, [(shared, number) for number in range(10)])
        assert dict(shared) == {number: number for number in range(10)}
    pool.join()


def test_connections_and_sockets_can_be_arguments(pool: procpool.Pool) -> None:
    reader, writer = multiprocessing.Pipe(duplex=False)
    with reader, writer:
        pool.apply(tasks.send, (writer, "hello"))
        assert reader.poll(LONG) and reader.recv() == "hello"
    # The standard library has begun a thread for what was sent.
    resource_sharer.stop(LONG)


def test_output_of_workers_is_not_lost(tmp_path: Any, start_method: str) -> None:
    finished = run(
        tmp_path,
        f"""
        import multiprocessing, procpool, sys

        def speak(number):
            # No new line: it stays in the worker's buffer until the worker ends.
            sys.stdout.write(f"<{{number}}>")

        if __name__ == "__main__":
            pool = procpool.Pool(2, context=multiprocessing.get_context("{start_method}"))
            pool.map(speak, range(6))
            pool.close()
            pool.join()
        """,
    )
    assert sorted(finished.check().strip("<>").split("><")) == list("012345")


def test_what_workers_leave_for_their_exit_is_run(tmp_path: Any, context: Any) -> None:
    path = str(tmp_path / "log")
    with procpool.Pool(2, tasks.note_at_exit, (path,), context=context) as pool:
        pool.map(tasks.pid, range(4))
        pool.close()
        pool.join()
    assert open(path).read().split() == ["left", "left"]

"""Where pools are used: prompts, doctests, frozen programs, many threads, forked children, other interpreters."""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import procpool
import pytest
import tasks
from programs import HERE, Program, run
from waiting import LONG, wait_until


def test_an_interactive_prompt() -> None:
    lines = """
from procpool import Pool
def cube(x):
    return x ** 3

with Pool(2) as pool:
    print("cubes", pool.map(cube, range(3)))

pool = Pool(2)
print("again", pool.apply(cube, (4,)))
"""
    # The second pool is not ended: the prompt ends all the same.
    output = Program("-i", "-q", text=lines).finish().check()
    assert "cubes [0, 1, 8]" in output and "again 64" in output


def test_under_doctest(tmp_path: Path) -> None:
    (tmp_path / "documented.py").write_text(
        '''
def square(x):
    """
    >>> import procpool
    >>> with procpool.Pool(2) as pool:
    ...     pool.map(square, range(4))
    [0, 1, 4, 9]
    >>> def local(x):
    ...     return -x
    >>> with procpool.Pool(2) as pool:
    ...     pool.map(local, range(3))
    [0, -1, -2]
    >>> with procpool.ProcessPoolExecutor(1) as executor:
    ...     executor.submit(square, 5).result()
    25
    """
    return x * x

if __name__ == "__main__":
    import doctest
    print(doctest.testmod())
'''
    )
    for arguments in (["-m", "doctest", "documented.py"], ["documented.py"]):
        finished = Program(*arguments, folder=tmp_path).finish()
        assert "Failed" not in finished.check() and "failed=0" in (finished.output or "failed=0"), finished


def test_in_a_frozen_program(tmp_path: Path) -> None:
    # By fork alone: the others run the program again, which only what froze it knows how to do.
    finished = run(
        tmp_path,
        """
        import multiprocessing, procpool, sys
        sys.frozen = True

        def square(x):
            return x * x

        if __name__ == "__main__":
            multiprocessing.freeze_support()
            with procpool.Pool(2, context=multiprocessing.get_context("fork")) as pool:
                print(pool.map(square, range(4)))
        """,
    )
    assert finished.check() == "[0, 1, 4, 9]\n"


def test_a_main_module_that_is_run_by_its_name(tmp_path: Path, start_method: str) -> None:
    package = tmp_path / "application"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "__main__.py").write_text(
        "import multiprocessing, procpool\n"
        "from .work import square\n"
        "if __name__ == '__main__':\n"
        f"    with procpool.Pool(2, context=multiprocessing.get_context('{start_method}')) as pool:\n"
        "        print(pool.map(square, range(3)))\n"
    )
    (package / "work.py").write_text("def square(x):\n    return x * x\n")
    assert Program("-m", "application", folder=tmp_path).finish().check() == "[0, 1, 4]\n"


# ---- threads ----


def test_many_threads_share_a_pool(pool: procpool.Pool) -> None:
    wrong: list[Any] = []

    def work(base: int) -> None:
        for number in range(base, base + 100):
            if pool.apply(tasks.square, (number,)) != number * number:
                wrong.append(number)
        expected = [number * number for number in range(base, base + 50)]
        if pool.map(tasks.square, range(base, base + 50)) != expected:
            wrong.append("map")
        if list(pool.imap(tasks.square, range(base, base + 50))) != expected:
            wrong.append("imap")

    threads = [threading.Thread(target=work, args=(1000 * number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LONG)
    assert not any(thread.is_alive() for thread in threads) and wrong == []


def test_many_threads_make_pools() -> None:
    right: list[int] = []

    def work(number: int) -> None:
        for _ in range(3):
            with procpool.Pool(1) as pool:
                if pool.apply(tasks.square, (number,)) == number * number:
                    right.append(number)
            pool.join()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LONG)
    assert not any(thread.is_alive() for thread in threads) and len(right) == 15


def test_a_pool_outlives_the_thread_that_made_it(context: Any) -> None:
    made: list[procpool.Pool] = []
    maker = threading.Thread(target=lambda: made.append(procpool.Pool(2, context=context)))
    maker.start()
    maker.join(LONG)
    pool = made.pop()
    assert pool.map(tasks.square, range(4), 1) == [0, 1, 4, 9]
    os.kill(pool._pool[0].pid, signal.SIGKILL)
    assert pool.map(tasks.square, range(4), 1) == [0, 1, 4, 9]
    pool.close()
    pool.join()


def test_a_waiting_thread_lets_others_run(pool: procpool.Pool, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    results: list[Any] = []
    waiter = threading.Thread(target=lambda: results.append(pool.apply(tasks.wait_for_file, (str(gate), 1))))
    waiter.start()
    assert pool.apply(tasks.same, (2,)) == 2
    gate.touch()
    waiter.join(LONG)
    assert results == [1]


# ---- forks ----


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_the_main_thread_forks_while_another_uses_the_pool(pool: procpool.Pool) -> None:
    stop = threading.Event()
    done: list[int] = []

    def use() -> None:
        while not stop.is_set():
            done.extend(pool.map(tasks.square, range(20)))

    user = threading.Thread(target=use)
    user.start()
    for _ in range(10):
        child = os.fork()
        if child == 0:
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
    wait_until(lambda: len(done) > 200, "the other thread goes on")
    stop.set()
    user.join(LONG)
    assert not user.is_alive() and pool.apply(tasks.same, (1,)) == 1


def in_a_forked_child(work: Any) -> str:
    """What `work` gives in a forked child, as text; the child is killed if it does not end."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            try:
                text = str(work())
            except BaseException as error:
                text = f"{type(error).__name__}: {error}"
            os.write(writer, text.encode()[:4000])
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        killer = threading.Timer(LONG, os.kill, (child, signal.SIGKILL))
        killer.start()
        text = pipe.read()
        killer.cancel()
        killer.join()
    os.waitpid(child, 0)
    return text


@pytest.mark.parametrize("name", ["apply", "map", "imap", "submit"])
def test_a_pool_of_the_parent_is_an_error_in_a_forked_child(pool: procpool.Pool, name: str) -> None:
    executor = procpool.ProcessPoolExecutor(1)
    assert executor.submit(tasks.square, 2).result(LONG) == 4
    calls = {
        "apply": lambda: pool.apply(tasks.square, (3,)),
        "map": lambda: pool.map(tasks.square, range(3)),
        "imap": lambda: list(pool.imap(tasks.square, range(3))),
        "submit": lambda: executor.submit(tasks.square, 3).result(),
    }
    said = in_a_forked_child(calls[name])
    assert "Error" in said and "fork" in said, said
    assert pool.apply(tasks.same, (1,)) == 1
    executor.shutdown()


def test_a_result_of_the_parent_does_not_hang_a_forked_child(pool: procpool.Pool, tmp_path: Path) -> None:
    result = pool.apply_async(tasks.wait_for_file, (str(tmp_path / "gate"), 1))
    said = in_a_forked_child(lambda: result.get(1))
    assert "Error" in said, said
    (tmp_path / "gate").touch()
    assert result.get(LONG) == 1


def test_a_forked_child_may_drop_and_end_what_it_has_inherited(tmp_path: Path) -> None:
    pool: Any = procpool.Pool(2)
    result = pool.apply_async(tasks.wait_for_file, (str(tmp_path / "gate"), 5))
    held = {"pool": pool}

    def end() -> str:
        held["pool"].terminate()
        held.clear()
        import gc

        gc.collect()
        return "ended"

    assert in_a_forked_child(end) == "ended"
    # The parent's pool is as it was.
    (tmp_path / "gate").touch()
    assert result.get(LONG) == 5 and pool.map(tasks.square, range(4)) == [0, 1, 4, 9]
    pool.terminate()
    pool.join()


def test_a_forked_child_may_make_its_own(pool: procpool.Pool) -> None:
    assert pool.apply(tasks.square, (2,)) == 4

    def work() -> int:
        with procpool.Pool(1) as own:
            return own.apply(tasks.square, (5,))

    assert in_a_forked_child(work) == "25"
    assert pool.apply(tasks.square, (3,)) == 9


def test_a_child_of_multiprocessing_ends_although_its_parent_had_a_pool(context: Any, pool: procpool.Pool) -> None:
    process = context.Process(target=tasks.square, args=(3,))
    process.start()
    process.join(LONG)
    assert process.exitcode == 0
    process.close()


# ---- interpreters ----


def test_a_subinterpreter_works_or_says_what_it_cannot(tmp_path: Path) -> None:
    finished = run(
        tmp_path,
        """
        import sys
        try:
            import _interpreters as interpreters
        except ImportError:
            import _xxsubinterpreters as interpreters

        code = '''
        try:
            import procpool
            with procpool.Pool(1) as pool:
                print("says", pool.apply(abs, (-3,)))
        except (ImportError, RuntimeError) as error:
            print("says", type(error).__name__, error)
        '''

        if __name__ == "__main__":
            import textwrap
            made = interpreters.create()
            failure = interpreters.run_string(made, textwrap.dedent(code))
            if failure is not None:
                print(failure)
            sys.stdout.flush()
            interpreters.destroy(made)
        """,
    )
    said = finished.output
    assert finished.status == 0 and "says" in said, finished
    assert "says 3" in said or "interpreter" in said, finished


def test_the_main_interpreter_is_not_harmed_by_an_import_elsewhere(tmp_path: Path) -> None:
    finished = run(
        tmp_path,
        """
        import procpool
        try:
            import _interpreters as interpreters
        except ImportError:
            import _xxsubinterpreters as interpreters

        if __name__ == "__main__":
            made = interpreters.create()
            interpreters.run_string(made, "try:\\n    import procpool\\nexcept ImportError:\\n    pass\\n")
            interpreters.destroy(made)
            with procpool.Pool(1) as pool:
                print(pool.apply(abs, (-3,)))
        """,
    )
    assert finished.check() == "3\n"


def test_optimised_and_isolated_interpreters(tmp_path: Path) -> None:
    script = tmp_path / "program.py"
    script.write_text(
        "import multiprocessing, procpool\n"
        "def square(x):\n    return x * x\n"
        "if __name__ == '__main__':\n"
        "    for method in multiprocessing.get_all_start_methods():\n"
        "        with procpool.Pool(1, context=multiprocessing.get_context(method)) as pool:\n"
        "            print(pool.map(square, range(3)))\n"
    )
    for options in (["-OO"], ["-E"], ["-s"], ["-X", "dev"], ["-X", "faulthandler"]):
        finished = Program(*options, str(script), folder=tmp_path).finish()
        assert finished.check() == "[0, 1, 4]\n" * 3
        assert "ResourceWarning" not in finished.errors, finished.errors


def test_closed_standard_streams(tmp_path: Path) -> None:
    finished = run(
        tmp_path,
        """
        import os, sys, procpool, tasks

        if __name__ == "__main__":
            os.close(0)
            os.close(2)
            sys.stdin = sys.stderr = None
            with procpool.Pool(2) as pool:
                print(pool.map(tasks.square, range(4)))
                print(type(pool.apply_async(tasks.killed, (2,)).wait() or pool).__name__)
        """,
    )
    assert finished.check() == "[0, 1, 4, 9]\nPool\n"


def test_few_descriptors(tmp_path: Path) -> None:
    finished = run(
        tmp_path,
        """
        import resource, procpool, tasks

        if __name__ == "__main__":
            resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
            with procpool.Pool(2) as pool:
                results = [pool.apply_async(tasks.square, (number,)) for number in range(5000)]
                print(sum(result.get() for result in results) == sum(number ** 2 for number in range(5000)))
                for _ in range(20):
                    pool.apply_async(tasks.killed, (2,)).wait()
                print(pool.map(tasks.square, range(4)))
        """,
    )
    assert finished.check() == "True\n[0, 1, 4, 9]\n"


def test_the_import_needs_little(tmp_path: Path) -> None:
    finished = run(
        tmp_path,
        """
        import sys, procpool
        print([name for name in ("numpy", "asyncio", "cloudpickle", "concurrent.futures.process") if name in sys.modules])
        print(len([name for name in dir(procpool) if name in procpool.__all__]) == len(procpool.__all__))
        """,
    )
    assert finished.check() == "[]\nTrue\n"


def test_under_pytest_itself(tmp_path: Path) -> None:
    (tmp_path / "test_inner.py").write_text(
        "import procpool, pytest\n"
        "def square(x):\n    return x * x\n"
        "@pytest.fixture\ndef pool():\n    with procpool.Pool(2) as pool:\n        yield pool\n"
        "def test_it(pool):\n    assert pool.map(square, range(4)) == [0, 1, 4, 9]\n"
        "def test_lambda(pool):\n    assert pool.map(lambda x: -x, [1]) == [-1]\n"
        "def test_crash(pool):\n    import ctypes\n"
        "    with pytest.raises(procpool.WorkerDied):\n        pool.apply(ctypes.string_at, (0,))\n"
    )
    arguments = [
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-c",
        os.devnull,
        "--rootdir",
        ".",
        "--basetemp",
        "inner",
        "test_inner.py",
    ]
    finished = Program(*arguments, folder=tmp_path).finish()
    assert "3 passed" in finished.check(), finished
    assert sys.executable and HERE


def test_a_pool_that_is_left_to_the_end_of_pytest(tmp_path: Path) -> None:
    (tmp_path / "test_inner.py").write_text(
        "import procpool\npool = procpool.Pool(2)\nexecutor = procpool.ProcessPoolExecutor(2)\n"
        "def test_it():\n    assert pool.map(abs, [-1]) == [1]\n    assert executor.submit(abs, -1).result() == 1\n"
    )
    arguments = [
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-c",
        os.devnull,
        "--rootdir",
        ".",
        "--basetemp",
        "inner",
        "test_inner.py",
    ]
    running = Program(*arguments, folder=tmp_path)
    assert "1 passed" in running.finish().check()
    running.check_all_have_gone()

"""`python -m procpool` and `install`: programs that name the standard library's pools get procpool's."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import pytest
from programs import Finished, Program, run

#: Says for every way to name a pool whose it is; and every one works.
EVERY_NAME = """
    import multiprocessing, multiprocessing.pool, concurrent.futures, concurrent.futures.process
    from multiprocessing import Pool
    from multiprocessing.pool import Pool as PoolClass
    from concurrent.futures import ProcessPoolExecutor
    import multiprocessing as mp
    import math

    def square(x):
        return x * x

    if __name__ == "__main__":
        makers = {
            "multiprocessing.Pool": multiprocessing.Pool,
            "imported Pool": Pool,
            "multiprocessing.pool.Pool": multiprocessing.pool.Pool,
            "imported class": PoolClass,
            "fork": mp.get_context("fork").Pool,
            "spawn": mp.get_context("spawn").Pool,
            "forkserver": mp.get_context("forkserver").Pool,
            "default context": mp.get_context().Pool,
            "ProcessPoolExecutor": concurrent.futures.ProcessPoolExecutor,
            "imported executor": ProcessPoolExecutor,
            "executor's module": concurrent.futures.process.ProcessPoolExecutor,
        }
        for name, make in makers.items():
            with make(1) as pool:
                results = list(pool.map(square, range(3)))
                print(name, type(pool).__module__, results)
"""


def check_every_name(output: str, package: str) -> None:
    lines = output.splitlines()
    assert len(lines) == 11, output
    for line in lines:
        assert f" {package}." in line and line.endswith("[0, 1, 4]"), line


def program(folder: Path, source: str, name: str = "program.py") -> str:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(source))
    return str(path)


def run_installed(folder: Path, *arguments: str) -> Finished:
    running = Program("-m", "procpool", *arguments, folder=folder)
    finished = running.finish()
    running.check_all_have_gone()
    return finished


def test_without_procpool_the_pools_are_the_standard_librarys(tmp_path: Path) -> None:
    finished = Program(program(tmp_path, EVERY_NAME), folder=tmp_path).finish()
    assert "procpool" not in finished.check()


def test_a_script_gets_procpools_by_every_name(tmp_path: Path) -> None:
    check_every_name(run_installed(tmp_path, program(tmp_path, EVERY_NAME)).check(), "procpool")


def test_a_module_gets_procpools_by_every_name(tmp_path: Path) -> None:
    program(tmp_path, "", "package/__init__.py")
    program(tmp_path, EVERY_NAME, "package/module.py")
    # The standard library's workers cannot find what a package's `__main__` defines.
    program(tmp_path, EVERY_NAME.replace("square,", "math.factorial,"), "package/__main__.py")
    check_every_name(run_installed(tmp_path, "-m", "package.module").check(), "procpool")
    check_every_name(run_installed(tmp_path, "-m", "package").check().replace("[1, 1, 2]", "[0, 1, 4]"), "procpool")


def test_code_gets_procpools(tmp_path: Path) -> None:
    code = """
        from multiprocessing import Pool
        import concurrent.futures
        with Pool(1) as pool, concurrent.futures.ProcessPoolExecutor(1) as executor:
            print(type(pool).__module__, pool.map(abs, [-1]), type(executor).__module__, executor.submit(abs, -2).result())
    """
    finished = run_installed(tmp_path, "-c", textwrap.dedent(code))
    assert finished.check() == "procpool.pool [1] procpool.futures 2\n"


def test_a_folder_with_a_main_is_a_program(tmp_path: Path) -> None:
    program(tmp_path, EVERY_NAME.replace("square,", "math.factorial,"), "application/__main__.py")
    output = run_installed(tmp_path, "application").check()
    check_every_name(output.replace("[1, 1, 2]", "[0, 1, 4]"), "procpool")


def test_modules_that_a_program_imports_get_procpools_too(tmp_path: Path) -> None:
    program(
        tmp_path, "from multiprocessing import Pool\nfrom concurrent.futures import ProcessPoolExecutor\n", "lib.py"
    )
    path = program(
        tmp_path,
        "import lib\nprint(lib.ProcessPoolExecutor.__module__, lib.Pool.__self__ is not None)\n"
        "if __name__ == '__main__':\n    pool = lib.Pool(1)\n    print(type(pool).__module__)\n    pool.terminate()\n",
    )
    assert run_installed(tmp_path, path).check() == "procpool.futures True\nprocpool.pool\n"


def test_workers_that_make_pools_make_procpools(tmp_path: Path, start_method: str) -> None:
    path = program(
        tmp_path,
        f"""
        import multiprocessing
        from multiprocessing import Pool
        from concurrent.futures import ProcessPoolExecutor

        def square(x):
            return x * x

        def nested(x):
            with multiprocessing.Pool(1) as pool, ProcessPoolExecutor(1) as executor:
                return type(pool).__module__, type(executor).__module__, pool.apply(square, (x,)), executor.submit(square, x).result()

        if __name__ == "__main__":
            multiprocessing.set_start_method("{start_method}")
            with Pool(1) as pool, ProcessPoolExecutor(1) as executor:
                print(pool.apply(nested, (3,)))
                print(executor.submit(nested, 3).result())
        """,
    )
    assert run_installed(tmp_path, path).check() == "('procpool.pool', 'procpool.futures', 9, 9)\n" * 2


def test_arguments_name_file_and_path_are_the_programs(tmp_path: Path) -> None:
    source = """
        import os, sys
        print(sys.argv, __name__, os.path.basename(__file__), os.path.realpath(sys.path[0]) == os.path.realpath(sys.argv[1]))
        print(sorted(name for name in globals() if not name.startswith("__")))
        print(sys.modules["__main__"].__dict__ is globals())
    """
    path = program(tmp_path, source, "inner/program.py")
    expected = Program(path, str(tmp_path / "inner"), "-x", "y", folder=tmp_path).finish().check()
    assert run_installed(tmp_path, path, str(tmp_path / "inner"), "-x", "y").check() == expected
    assert "-x" in expected and "True" in expected


def test_arguments_of_a_module(tmp_path: Path) -> None:
    program(tmp_path, "import sys; print(sys.argv, __name__, __package__, __spec__.name)", "package/module.py")
    program(tmp_path, "", "package/__init__.py")
    expected = Program("-m", "package.module", "-x", folder=tmp_path).finish().check()
    assert run_installed(tmp_path, "-m", "package.module", "-x").check() == expected


@pytest.mark.parametrize(
    ("source", "status"),
    [("import sys; sys.exit(5)", 5), ("raise SystemExit", 0), ("import sys; sys.exit('words')", 1), ("1/0", 1)],
)
def test_the_status_is_the_programs(tmp_path: Path, source: str, status: int) -> None:
    finished = run_installed(tmp_path, program(tmp_path, source))
    assert finished.status == status
    assert ("words" in finished.errors) == ("words" in source)
    if "1/0" in source:
        assert "ZeroDivisionError" in finished.errors and "program.py" in finished.errors


def test_what_cannot_be_run_is_told(tmp_path: Path) -> None:
    for arguments, text in (
        (["missing.py"], "missing.py"),
        (["-m", "missing_module"], "missing_module"),
        (["--nonsense"], "--nonsense"),
        ([], "usage"),
    ):
        finished = run_installed(tmp_path, *arguments)
        assert finished.status != 0 and text in finished.errors and "Traceback" not in finished.errors, finished
    finished = run_installed(tmp_path, "--help")
    assert "usage: python -m procpool" in finished.output


def test_a_crash_costs_one_task_in_an_unchanged_program(tmp_path: Path) -> None:
    path = program(
        tmp_path,
        """
        import os, signal
        from multiprocessing import Pool

        def work(number):
            if number == 2:
                os.kill(os.getpid(), signal.SIGKILL)
            return number

        if __name__ == "__main__":
            with Pool(2) as pool:
                for number in range(5):
                    try:
                        print(pool.apply(work, (number,)))
                    except Exception as error:
                        print(type(error).__name__)
        """,
    )
    assert run_installed(tmp_path, path).check().split() == ["0", "1", "WorkerDied", "3", "4"]


# ---- from code ----


def test_install_and_uninstall(tmp_path: Path) -> None:
    finished = run(
        tmp_path,
        """
        import sys, types
        from multiprocessing import Pool, get_context
        from multiprocessing.pool import Pool as PoolClass
        from concurrent.futures import ProcessPoolExecutor
        import multiprocessing.pool, concurrent.futures

        early = types.ModuleType("early")
        early.Pool, early.Class, early.Executor = Pool, PoolClass, ProcessPoolExecutor
        sys.modules["early"] = early

        def names():
            context = get_context("fork")
            return [type(each).__name__ + " " + each.__module__ + " " + each.__qualname__ for each in (
                multiprocessing.Pool, context.Pool, multiprocessing.pool.Pool, concurrent.futures.ProcessPoolExecutor,
                Pool, PoolClass, ProcessPoolExecutor, early.Pool, early.Class, early.Executor)]

        def kinds():
            found = []
            for make in (multiprocessing.Pool, get_context("fork").Pool, multiprocessing.pool.Pool, Pool, early.Pool,
                         concurrent.futures.ProcessPoolExecutor, early.Executor):
                with make(1) as pool:
                    found.append(type(pool).__module__.split(".")[0])
            return found

        if __name__ == "__main__":
            import procpool
            before = names(), kinds()
            procpool.install()
            procpool.install()
            print(set(kinds()))
            procpool.uninstall()
            print((names(), kinds()) == before)
            procpool.uninstall()
            procpool.install()
            print(set(kinds()))
        """,
    )
    assert finished.check() == "{'procpool'}\nTrue\n{'procpool'}\n", finished


def test_classes_that_were_derived_before_stay_what_they_are(tmp_path: Path) -> None:
    finished = run(
        tmp_path,
        """
        import multiprocessing.pool, procpool

        class Mine(multiprocessing.pool.Pool):
            pass

        if __name__ == "__main__":
            procpool.install()
            class Late(multiprocessing.pool.Pool):
                pass
            for kind in (Mine, Late):
                with kind(1) as pool:
                    print(pool.map(abs, [-1]), isinstance(pool, procpool.Pool))
        """,
    )
    assert finished.check() == "[1] False\n[1] True\n"


def test_thread_pools_are_left_alone(tmp_path: Path) -> None:
    finished = run(
        tmp_path,
        """
        import os, procpool
        procpool.install()
        from multiprocessing.pool import ThreadPool
        from multiprocessing.dummy import Pool as DummyPool
        from concurrent.futures import ThreadPoolExecutor

        if __name__ == "__main__":
            with ThreadPool(1) as a, DummyPool(1) as b, ThreadPoolExecutor(1) as c:
                print(a.apply(os.getpid) == b.apply(os.getpid) == c.submit(os.getpid).result() == os.getpid())
        """,
    )
    assert finished.check() == "True\n"


def test_workers_of_the_standard_library_are_not_changed_by_the_import_alone(tmp_path: Any) -> None:
    finished = run(
        tmp_path,
        """
        import procpool, multiprocessing, concurrent.futures

        if __name__ == "__main__":
            with multiprocessing.Pool(1) as pool:
                print(type(pool).__module__, concurrent.futures.ProcessPoolExecutor.__module__)
        """,
    )
    assert finished.check() == "multiprocessing.pool concurrent.futures.process\n"

"""Workers in a sandbox: what is not allowed is refused, what is allowed works, and the pool is a pool as ever."""

from __future__ import annotations

import errno
import multiprocessing
import os
import pickle
import socket
from pathlib import Path
from typing import Any, Iterator

import confined
import procpool
import pytest
import tasks
from procpool import Sandbox
from programs import run
from waiting import LONG, wait_until


@pytest.fixture(scope="module", autouse=True)
def the_system_can() -> None:
    """Without what a sandbox is made of, all that there is to see is that the error says so."""
    try:
        Sandbox().check()
    except procpool.SandboxError as error:
        pytest.skip(str(error))


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder with files that workers may not change."""
    return _folder(tmp_path / "outside")


@pytest.fixture
def inside(tmp_path: Path) -> Path:
    """A folder with files that they may."""
    return _folder(tmp_path / "inside")


def _folder(path: Path) -> Path:
    path.mkdir()
    (path / "old").write_text("old")
    (path / "older").write_text("older")
    return path


@pytest.fixture
def shut_in(context: Any, inside: Path) -> Iterator[procpool.Pool]:
    """A pool whose workers may write `inside`, for every start method."""
    with procpool.Pool(1, context=context, sandbox=Sandbox(write=[inside])) as pool:
        yield pool
    pool.join()


# ---- what is refused, and what is not ----


def test_files_are_changed_in_the_given_folders_alone(shut_in: procpool.Pool, inside: Path, outside: Path) -> None:
    refused = shut_in.apply(confined.change, (str(outside),))
    assert set(refused.values()) == {errno.EACCES}, refused
    assert sorted(path.name for path in outside.iterdir()) == ["old", "older"]
    assert (outside / "old").read_text() == "old"
    allowed = shut_in.apply(confined.change, (str(inside),))
    assert set(allowed.values()) <= {0, errno.ENOENT}, allowed
    assert (inside / "new").read_text() == "written"


def test_what_is_refused_is_a_permission_error(shut_in: procpool.Pool, outside: Path) -> None:
    with pytest.raises(PermissionError):
        shut_in.apply(open, (str(outside / "old"), "w"))


def test_the_network_is_closed_unless_it_is_allowed(shut_in: procpool.Pool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        refused = shut_in.apply(confined.open_network, (port,))
        assert {refused["connect"], refused["unix"], refused["datagram"]} == {errno.EPERM}, refused
        assert refused["look up"] != 0
        with procpool.Pool(1, sandbox=Sandbox(network=True)) as pool:
            assert pool.apply(confined.open_network, (port,))["connect"] == 0
        pool.join()


def test_programs_cannot_be_started_unless_they_are_allowed(
    shut_in: procpool.Pool, inside: Path, outside: Path, context: Any
) -> None:
    assert shut_in.apply(confined.start_program) == errno.EPERM
    with procpool.Pool(1, context=context, sandbox=Sandbox(write=[inside], programs=True)) as pool:
        assert pool.apply(confined.start_program, (str(inside),)) == 0
        assert pool.apply(confined.start_program, (str(outside),)) != 0
    pool.join()


def test_a_worker_has_no_privileges(shut_in: procpool.Pool) -> None:
    seen = shut_in.apply(confined.own_status, ("NoNewPrivs", "Seccomp", "CapEff", "CapPrm"))
    assert seen == ["1", "2", "0" * 16, "0" * 16]
    assert shut_in.apply(os.setuid, (os.getuid(),)) is None
    with pytest.raises(PermissionError):
        shut_in.apply(os.setuid, (os.getuid() + 1 if os.getuid() == 0 else 0,))


def test_a_worker_cannot_look_into_its_parent(shut_in: procpool.Pool) -> None:
    assert isinstance(shut_in.apply(Path.read_bytes, (Path(f"/proc/{os.getpid()}/cmdline"),)), bytes)
    with pytest.raises(PermissionError):
        shut_in.apply(Path.read_bytes, (Path(f"/proc/{os.getpid()}/environ"),))


def test_all_else_is_as_usual(shut_in: procpool.Pool) -> None:
    number, thread, loop, text, status = shut_in.apply(confined.work_as_usual, (None,))
    assert (number, thread, loop, text, status) == (2, "thread", "loop", '"""', 7)
    data = bytes(range(256)) * 100_000
    assert shut_in.apply(tasks.same, (data,)) == data
    assert shut_in.map(tasks.square, range(1000)) == [number * number for number in range(1000)]


def test_limits_are_errors(context: Any, inside: Path) -> None:
    sandbox = Sandbox(write=[inside], memory=1 << 30, open_files=60, file_size=1000)
    with procpool.Pool(1, context=context, sandbox=sandbox) as pool:
        assert pool.apply(confined.limits, (None,)) == [1 << 30, 60, 1000]
        with pytest.raises(MemoryError):
            pool.apply(confined.allocate, (2 << 30,))
        assert pool.apply(confined.open_many, (10,)) == 0
        assert pool.apply(confined.open_many, (100,)) == errno.EMFILE
        assert pool.apply(confined.write_long, (str(inside / "short"), 1000)) == 0
        assert pool.apply(confined.write_long, (str(inside / "long"), 1001)) == errno.EFBIG
        assert len(pool.apply(bytes, (1 << 20,))) == 1 << 20
    pool.join()


def test_what_a_task_prints_is_seen(tmp_path: Path) -> None:
    finished = run(
        tmp_path,
        """
        import procpool

        with procpool.Pool(1, sandbox=procpool.Sandbox()) as pool:
            pool.apply(print, ("seen",))
        """,
    )
    assert finished.check() == "seen\n"


# ---- when it is entered ----


def test_the_initializer_runs_in_the_sandbox(context: Any, outside: Path) -> None:
    arguments = (str(outside / "new"),)
    with procpool.Pool(1, confined.initialize, arguments, context=context, sandbox=Sandbox()) as pool:
        assert pool.apply(confined.initialized) == errno.EACCES
    pool.join()


def test_a_worker_in_anothers_place_is_shut_in_as_well(shut_in: procpool.Pool, outside: Path) -> None:
    for _ in range(2):
        with pytest.raises(procpool.WorkerDied):
            shut_in.apply(tasks.killed, (tasks.BAD,))
        assert shut_in.apply(confined.create, (str(outside / "new"),)) == errno.EACCES


def test_an_executor_has_one_too(context: Any, inside: Path, outside: Path) -> None:
    sandbox = Sandbox(write=[inside])
    with procpool.ProcessPoolExecutor(2, context, sandbox=sandbox) as executor:
        assert executor.submit(confined.create, str(inside / "new")).result(LONG) == 0
        assert executor.submit(confined.create, str(outside / "new")).result(LONG) == errno.EACCES


def test_threads_that_were_there_before_keep_a_worker_from_running(tmp_path: Path) -> None:
    """Modules that a method imports before the worker's own code may have started threads."""
    finished = run(
        tmp_path,
        """
        import threading, time
        import procpool
        from multiprocessing import get_context

        threading.Thread(target=time.sleep, args=(60,), daemon=True).start()

        if __name__ == "__main__":
            pool = procpool.Pool(1, context=get_context("spawn"), sandbox=procpool.Sandbox())
            try:
                print(pool.apply(abs, (-1,)))
            except procpool.PoolBroken as error:
                print("broken:", error)
            pool.terminate()
            pool.join()
        """,
    )
    assert (
        "broken: the pool gave up: a worker could not enter its sandbox: the process has 2 threads" in finished.check()
    )


# ---- pools of workers ----


def test_a_pool_of_a_workers_own_is_shut_in_as_well(shut_in: procpool.Pool, inside: Path, outside: Path) -> None:
    for kind in (procpool.Pool, procpool.ProcessPoolExecutor):
        for folder, came_of_it in ((inside, 0), (outside, errno.EACCES)):
            call = (confined.create, (str(folder / "new"),))
            assert shut_in.apply(confined.nested, (kind, "fork", *call)) == came_of_it


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
@pytest.mark.parametrize("kind", [procpool.Pool, procpool.ProcessPoolExecutor])
def test_a_method_that_starts_programs_makes_no_pool_in_a_worker(kind: Any, method: str) -> None:
    with procpool.Pool(1, sandbox=Sandbox()) as pool:
        with pytest.raises(PermissionError, match=f"forbids programs, and the start method {method!r} needs one"):
            pool.apply(confined.nested, (kind, method))
        # Nor in a worker's worker.
        with pytest.raises(PermissionError, match="forbids programs"):
            pool.apply(confined.nested, (procpool.Pool, "fork", confined.nested, (kind, method)))
    pool.join()


# ---- the end ----


def test_terminate_ends_workers_in_a_sandbox(context: Any, tmp_path: Path) -> None:
    pool = procpool.Pool(2, context=context, sandbox=Sandbox(write=[tmp_path]))
    result = pool.apply_async(tasks.appear_and_wait, (str(tmp_path / "task"),))
    wait_until((tmp_path / "task.running").exists, "the task runs")
    pids = [process.pid for process in pool._pool]
    pool.terminate()
    pool.join()
    with pytest.raises(procpool.Terminated):
        result.get(LONG)
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


def test_a_crash_in_a_sandbox_leaves_its_stack(shut_in: procpool.Pool) -> None:
    with pytest.raises(procpool.WorkerDied) as caught:
        shut_in.apply(tasks.crashed, (tasks.BAD,))
    assert caught.value.last_words and "crashed" in caught.value.last_words


# ---- the value ----


def test_a_sandbox_is_a_plain_value(tmp_path: Path) -> None:
    sandbox = Sandbox(write=[tmp_path, "/tmp"], network=True, open_files=100)
    assert sandbox.write == (str(tmp_path), "/tmp")
    assert (sandbox.network, sandbox.programs, sandbox.memory, sandbox.open_files) == (True, False, None, 100)
    assert pickle.loads(pickle.dumps(sandbox)) == sandbox != Sandbox()
    assert eval(repr(sandbox)) == sandbox
    with pytest.raises(TypeError):
        Sandbox(write="/tmp")


# ---- what is missing ----


@pytest.mark.parametrize(
    "call, number, mechanism",
    [
        ("landlock_create_ruleset", errno.ENOSYS, "landlock"),
        ("landlock_create_ruleset", errno.EOPNOTSUPP, "landlock"),
        ("landlock_create_ruleset", 0, "landlock"),
        ("seccomp", errno.ENOSYS, "seccomp"),
    ],
)
def test_what_the_system_lacks_is_an_error_and_there_is_no_pool(
    tmp_path: Path, call: str, number: int, mechanism: str
) -> None:
    finished = run(
        tmp_path,
        f"""
        import confined, multiprocessing, procpool

        confined.forget_call({call!r}, {number})
        for kind in (procpool.Pool, procpool.ProcessPoolExecutor):
            try:
                kind(1, sandbox=procpool.Sandbox())
            except procpool.SandboxError as error:
                print(error.mechanism, "|", error)
        print(multiprocessing.active_children())
        """,
    )
    first, second, children = finished.check().splitlines()
    assert first == second and first.startswith(f"{mechanism} | no worker was started: this system has no ")
    assert children == "[]"


def test_a_worker_that_cannot_enter_runs_nothing(tmp_path: Path) -> None:
    finished = run(
        tmp_path,
        f"""
        import confined, procpool

        confined.forget_call("landlock_restrict_self", {errno.E2BIG})
        with procpool.Pool(1, sandbox=procpool.Sandbox()) as pool:
            try:
                print(pool.apply(abs, (-1,)))
            except procpool.PoolBroken as error:
                print(error)
        """,
    )
    assert finished.check().startswith("the pool gave up: a worker could not enter its sandbox: Argument list too long")


@pytest.mark.parametrize("kind", [procpool.Pool, procpool.ProcessPoolExecutor])
def test_a_folder_that_is_not_there_is_an_error_with_its_name(kind: Any, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        kind(1, sandbox=Sandbox(write=[tmp_path / "nowhere"]))
    assert caught.value.filename == str(tmp_path / "nowhere")
    assert not multiprocessing.active_children()

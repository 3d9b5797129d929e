"""What all tests share: pools that are ended, a watch over hangs, and a look at what each test has left behind."""

from __future__ import annotations

import faulthandler
import multiprocessing
import os
import tempfile
from multiprocessing import forkserver, resource_tracker
from typing import Any, Generator, Iterator

import procpool
import pytest
from holdings import check_nothing_is_new, holdings

#: After so many seconds a test is taken to hang in compiled code, which pytest-timeout cannot stop: the run ends.
HOPELESS = 300

START_METHODS = multiprocessing.get_all_start_methods()

_stderr = -1
_has_failed = pytest.StashKey[bool]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--patience", type=float, default=10.0, help="seconds for things that end by themselves")


def pytest_configure(config: pytest.Config) -> None:
    global _stderr
    # Nothing is captured yet, so this is the real one.
    _stderr = os.dup(2)
    # Names of semaphores are seen by all: these are known to be of this process and its children.
    multiprocessing.current_process()._config["semprefix"] = f"/procpool-tests-{os.getpid()}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, Any]:
    report = yield
    item.stash[_has_failed] = report.failed or item.stash.get(_has_failed, False)
    return report


@pytest.fixture(scope="session", autouse=True)
def temporary_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A folder for temporary files where nobody else writes."""
    # Names of sockets must be short.
    folder = str(tmp_path_factory.mktemp("temporary"))
    folder = folder if len(folder) < 60 else tempfile.mkdtemp(prefix="procpool-tests-")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", folder)
        patch.setattr(tempfile, "tempdir", None)
        # Whole programs may have these, and they stay until the interpreter ends.
        resource_tracker.ensure_running()
        forkserver.ensure_running()
        multiprocessing.Value("i", 0)
        with multiprocessing.get_context("forkserver").Pool(1) as pool:
            pool.apply(abs, (1,))
        pool.join()
        yield


@pytest.fixture(autouse=True)
def nothing_is_left(request: pytest.FixtureRequest, temporary_folder: None) -> Iterator[None]:
    """After each test: nothing is held that was not held before it."""
    faulthandler.dump_traceback_later(HOPELESS, exit=True, file=_stderr)
    before = holdings()
    yield
    try:
        # pytest keeps what fixtures gave, and of a test that failed every frame.
        request.node.funcargs.clear()
        if not request.node.stash.get(_has_failed, False):
            check_nothing_is_new(before, request.config.getoption("--patience"))
    finally:
        faulthandler.cancel_dump_traceback_later()


@pytest.fixture(params=START_METHODS)
def start_method(request: pytest.FixtureRequest) -> str:
    method: str = request.param
    return method


@pytest.fixture
def context(start_method: str) -> Any:
    return multiprocessing.get_context(start_method)


@pytest.fixture
def pool() -> Iterator[procpool.Pool]:
    """A pool of two workers."""
    with procpool.Pool(2) as pool:
        yield pool
    pool.join()


@pytest.fixture
def executor() -> Iterator[procpool.ProcessPoolExecutor]:
    """An executor of two workers."""
    with procpool.ProcessPoolExecutor(2) as executor:
        yield executor

"""Writes down which pools a program makes. Python imports this in every process that finds it in its path.

Classes are watched where they are, not replaced: the program sees what it would see without this.
"""

from __future__ import annotations

import atexit
import functools
import importlib.abc
import importlib.machinery
import os
import sys
from typing import Any

#: The classes to watch, by their modules.
WATCHED = {
    "multiprocessing.pool": "Pool",
    "concurrent.futures.process": "ProcessPoolExecutor",
    "procpool.pool": "Pool",
    "procpool.futures": "ProcessPoolExecutor",
}

REPORT = os.environ.get("POOL_WITNESS")


def report(line: str) -> None:
    """Adds a line, whole, to what all processes of the program report."""
    descriptor = os.open(str(REPORT), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(descriptor, f"{line}\n".encode())
    os.close(descriptor)


class Watching(importlib.abc.Loader):
    """Loads a module as its own loader does, then watches its pool."""

    def __init__(self, loader: Any, class_name: str) -> None:
        self._loader = loader
        self._class_name = class_name

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def create_module(self, spec: Any) -> Any:
        return self._loader.create_module(spec)

    def exec_module(self, module: Any) -> None:
        self._loader.exec_module(module)
        watch(getattr(module, self._class_name), f"{module.__name__}.{self._class_name}")


class Finder(importlib.abc.MetaPathFinder):
    """Finds the modules whose pools are watched."""

    def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
        if name not in WATCHED:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is not None:
            spec.loader = Watching(spec.loader, WATCHED[name])
        return spec


def watch(watched: Any, name: str) -> None:
    """Reports each instance that is made, and at exit the number of tasks that procpool was given."""
    make = watched.__init__

    @functools.wraps(make)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        if type(self).__name__ != "ThreadPool":
            report(f"made {name}")
        make(self, *args, **kwargs)

    watched.__init__ = __init__
    if name.startswith("procpool."):
        count_tasks(watched)


def count_tasks(watched: Any) -> None:
    """Reports at exit how many tasks went to pools of this class."""
    count = 0

    def counts(call: Any) -> Any:
        @functools.wraps(call)
        def counted(*args: Any, **kwargs: Any) -> Any:
            nonlocal count
            count += 1
            return call(*args, **kwargs)

        return counted

    watched._submit = counts(watched._submit)
    if hasattr(watched, "_submit_each"):
        submit_each = watched._submit_each

        @functools.wraps(submit_each)
        def _submit_each(self: Any, call: Any, func: Any, arguments: Any, keep: Any, *more: Any, **named: Any) -> Any:
            return submit_each(self, call, func, arguments, counts(keep), *more, **named)

        watched._submit_each = _submit_each
    else:
        tasks = watched._tasks
        watched._tasks = lambda *args: map(counts(lambda task: task), tasks(*args))
    owner = os.getpid()
    atexit.register(lambda: report(f"tasks {count}") if count and os.getpid() == owner else None)


if REPORT:
    sys.meta_path.insert(0, Finder())

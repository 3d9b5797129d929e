"""procpool in the place of the standard library's pools, for programs that name those."""

from __future__ import annotations

import multiprocessing.pool
import sys
import types

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: Names that hold other objects now: (namespace, name, original). Empty while nothing is installed.
_replaced: list[tuple[dict[str, Any], str, Any]] = []


class _Pool:
    """The attribute `Pool` of `multiprocessing.pool`, as everybody else sees it.

    The module's own functions look into its namespace instead, and find there what they were written for: `ThreadPool`
    is made of the standard library's `Pool`, and every context's `Pool` imports the name when it is called.
    """

    def __get__(self, module: Any, owner: Any = None) -> Any:
        from .pool import Pool

        return vars(module).get("_instead", Pool)

    def __set__(self, module: Any, value: Any) -> None:
        # A program's own patch.
        vars(module)["_instead"] = value


class _PoolModule(types.ModuleType):
    Pool = _Pool()


def install() -> None:
    """Makes `multiprocessing.Pool`, every context's `Pool`, `multiprocessing.pool.Pool` and
    `concurrent.futures.ProcessPoolExecutor` procpool's, also in modules that have imported them before."""
    if _replaced:
        return
    import concurrent.futures.process

    from . import futures, pool, worker

    worker.is_installed = True
    standard_pool = vars(multiprocessing.pool)["Pool"]
    standard_executor = concurrent.futures.process.ProcessPoolExecutor
    # The package makes it an attribute only once somebody has asked for it.
    _replace(vars(concurrent.futures), "ProcessPoolExecutor", standard_executor, futures.ProcessPoolExecutor)
    for namespace in _namespaces():
        for name, value in list(namespace.items()):
            if value is standard_executor:
                _replace(namespace, name, value, futures.ProcessPoolExecutor)
            elif value is standard_pool:
                _replace(namespace, name, value, pool.Pool)
    multiprocessing.pool.__class__ = _PoolModule


def uninstall() -> None:
    """Undoes `install`."""
    from . import worker

    worker.is_installed = False
    multiprocessing.pool.__class__ = types.ModuleType
    vars(multiprocessing.pool).pop("_instead", None)
    replaced, _replaced[:] = _replaced[:], []
    for namespace, name, original in reversed(replaced):
        namespace[name] = original


def _replace(namespace: dict[str, Any], name: str, original: Any, value: Any) -> None:
    _replaced.append((namespace, name, original))
    namespace[name] = value


def _namespaces() -> list[dict[str, Any]]:
    """Of all modules, but this package's and the one that `ThreadPool` lives in."""
    found = {}
    for module in list(sys.modules.values()):
        name = str(getattr(module, "__name__", None))
        if isinstance(module, types.ModuleType) and module is not multiprocessing.pool and name[:9] != "procpool.":
            found[id(vars(module))] = vars(module)
    # In a worker that was spawned, the functions of the main module have a namespace of their own (runpy.run_path).
    main = sys.modules["__main__"]
    for value in list(vars(main).values()):
        for function in (value, *vars(value).values()) if isinstance(value, type) else (value,):
            if isinstance(function, types.FunctionType) and function.__module__ == main.__name__:
                found[id(function.__globals__)] = function.__globals__
    return list(found.values())

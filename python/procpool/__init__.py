"""A process pool that loses no task: one crash costs one task, and nothing is left behind.

`Pool` is `multiprocessing.Pool`, and `ProcessPoolExecutor` is that of `concurrent.futures`, with the same calls:

    from procpool import Pool

`python -m procpool SCRIPT.py` runs a program that says `from multiprocessing import Pool` with procpool's, unchanged.
"""

from __future__ import annotations

from multiprocessing import TimeoutError, cpu_count

#: As type checkers know it: `typing` itself would be a sixth of all that is imported.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from . import errors as errors, futures as futures, pool as pool
    from ._procpool import Sandbox
    from .dumping import dump_on_signal
    from .errors import (
        CancelledError,
        MemoryLimitExceeded,
        PoolBroken,
        SandboxError,
        TaskTimeout,
        Terminated,
        UnpicklableError,
        WorkerDied,
    )
    from .futures import ProcessPoolExecutor
    from .installation import install, uninstall
    from .pool import AsyncResult, MaybeEncodingError, Pool

__version__ = "0.1.0"

__all__ = [
    "AsyncResult",
    "CancelledError",
    "MaybeEncodingError",
    "MemoryLimitExceeded",
    "Pool",
    "PoolBroken",
    "ProcessPoolExecutor",
    "Sandbox",
    "SandboxError",
    "TaskTimeout",
    "Terminated",
    "TimeoutError",
    "UnpicklableError",
    "WorkerDied",
    "cpu_count",
    "dump_on_signal",
    "install",
    "uninstall",
]

#: Where the names are. They are imported when they are used: a worker needs none of them.
_LATER = {
    "AsyncResult": "pool",
    "MaybeEncodingError": "pool",
    "Pool": "pool",
    "ProcessPoolExecutor": "futures",
    "Sandbox": "_procpool",
    "dump_on_signal": "dumping",
    "install": "installation",
    "uninstall": "installation",
}
_MODULES = ("errors", "futures", "pool")


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return _imported(name)
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(_imported(_LATER.get(name, "errors")), name)
    globals()[name] = value
    return value


def _imported(module: str) -> Any:
    # The statement's own function: `importlib` takes as long as three modules of this package.
    return __import__(f"{__name__}.{module}", fromlist=["*"])


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_MODULES})

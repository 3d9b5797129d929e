"""Limits for one call: how long a task may run, and how often it is tried again after its worker died."""

import os
import signal
import tempfile
import time
from pathlib import Path

from procpool import Pool
from procpool.errors import TaskTimeout


def sleep(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def die_at_first(marker: Path) -> str:
    if not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return "worked at the second attempt"


def main() -> None:
    with Pool(2) as pool, tempfile.TemporaryDirectory() as folder:
        impatient = pool.options(timeout=0.2)
        print(impatient.apply(sleep, (0.01,)))
        try:
            impatient.apply(sleep, (60,))
        except TaskTimeout as error:
            print(error)

        persistent = pool.options(retries=2)
        print(persistent.apply(die_at_first, (Path(folder) / "tried",)))


if __name__ == "__main__":
    main()

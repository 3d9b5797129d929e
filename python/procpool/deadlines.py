"""Until when a wait may last: a reading of the monotonic clock, or None for ever."""

from __future__ import annotations

import threading
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Optional

    Deadline = Optional[float]


def deadline_after(timeout: Optional[float]) -> Deadline:
    """The deadline of a wait that may last `timeout` seconds from now."""
    return None if timeout is None else time.monotonic() + timeout


def left(deadline: Deadline) -> Optional[float]:
    """Seconds until then; not less than 0, and not more than the interpreter's waits can take."""
    return None if deadline is None else min(max(0.0, deadline - time.monotonic()), threading.TIMEOUT_MAX)


def time_is_over(deadline: Deadline) -> bool:
    """Whether nothing is left."""
    return left(deadline) == 0

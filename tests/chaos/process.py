"""A process, told apart from others that had its number before or have it after: numbers go round within minutes here."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple


class Process(NamedTuple):
    """One process."""

    pid: int
    #: When it began, in ticks of the kernel's clock since the machine did.
    start: int

    @classmethod
    def of(cls, pid: int) -> Process:
        """The one that has this number now. Raises OSError if there is none."""
        fields = Path(f"/proc/{pid}/stat").read_text()
        # After the name, which may hold anything.
        return cls(pid, int(fields.rpartition(")")[2].split()[19]))

"""Runs programs from PyPI that use pools, unchanged: as they are, then under `python -m procpool`.

    python tests/programs/run.py [NAME...]

The interpreter is one that has procpool and the programs of requirements.txt. Each program has to end with
the same status, print the same, and leave the same files as in a run without procpool. A witness in its
processes writes down which pools it made. A run that takes too long is killed and named, and one that leaves
processes behind fails.
"""

from __future__ import annotations

import argparse
import difflib
import hashlib
import importlib.metadata
import os
import platform
import re
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from programs import PROGRAMS, Program

HERE = Path(__file__).parent

#: How long one run may take, in seconds. Most need two.
LIMIT = 120

#: How long processes of a program may outlive it, in seconds.
LINGER = 10

#: How often a program is run without procpool at most. What it does there is not always the same: the standard
#: library's pools terminate workers which may have something left to print or to put away.
PLAIN_RUNS = 3

#: How many lines of a difference are shown.
SHOWN = 40


@dataclass(frozen=True)
class Run:
    """What one run of a program did."""

    #: None if it was killed since it took too long.
    status: int | None
    output: str
    errors: str
    #: The files it left, by path, as digests.
    files: dict[str, str]
    seconds: float
    #: The pools that it made, and how many tasks procpool's got.
    pools: set[str]
    tasks: int
    #: Processes that were still there some time after its end.
    left: list[int]


def main() -> int:
    arguments = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    arguments.add_argument("names", nargs="*", metavar="NAME", help="run only these programs")
    names = arguments.parse_args().names
    unknown = sorted(set(names) - {program.name for program in PROGRAMS})
    if unknown:
        arguments.error(f"no such program: {', '.join(unknown)}")
    chosen = [program for program in PROGRAMS if not names or program.name in names]
    print(f"{'program':18} {'version':10} {'uses':20} {'output':10} {'plain':>8} {'procpool':>9}")
    failed = sum(not compare(program) for program in chosen)
    print(f"programs: {len(chosen) - failed} passed, {failed} failed")
    return 1 if failed else 0


def compare(program: Program) -> bool:
    """Runs it both ways and prints what came of it."""
    with tempfile.TemporaryDirectory(prefix="programs-") as folder:
        ours = run(program, ["-m", "procpool"], Path(folder, "work"))
        for _ in range(PLAIN_RUNS):
            plain = run(program, [], Path(folder, "work"))
            faults = [*faults_of_plain(program, plain), *faults_of_ours(program, plain, ours)]
            if not faults:
                break
    print(
        f"{program.name:18} {version(program):10} {program.uses:20} {'different' if faults else 'same':10} "
        f"{plain.seconds:6.1f} s {ours.seconds:7.1f} s",
        flush=True,
    )
    for fault in faults:
        print(f"    {fault}".replace("\n", "\n    "), flush=True)
    return not faults


def version(program: Program) -> str:
    if program.distribution is None:
        return platform.python_version()
    return importlib.metadata.version(program.distribution)


# ---- one run ----


def run(program: Program, launcher: list[str], folder: Path) -> Run:
    """Runs it in `folder`, which is new, so that every run sees the same paths."""
    for name in ("", "home", "work"):
        (folder / name).mkdir()
    work, log = folder / "work", folder / "log"
    program.prepare(work / "source")
    with open(folder / "output", "wb") as output, open(folder / "errors", "wb") as errors:
        start = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, *launcher, *program.arguments],
            cwd=work,
            env=environment(program, folder, log),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=errors,
            start_new_session=True,
        )
        status = wait_or_kill(process)
        seconds = time.perf_counter() - start
    left = outlived(process.pid)
    pools, tasks = testimony(log)
    text = program.normalised((folder / "output").read_text(errors="replace"))
    errors_text = program.normalised((folder / "errors").read_text(errors="replace"))
    done = Run(status, text, errors_text, digests(work), seconds, pools, tasks, left)
    # The next run gets the same place, empty.
    folder.rename(folder.with_name(f"{folder.name}-{os.urandom(4).hex()}"))
    return done


def environment(program: Program, folder: Path, log: Path) -> dict[str, str]:
    """The same for every run: caches are empty, and sets have one order."""
    return {
        "PATH": f"{Path(sys.executable).parent}:{os.environ.get('PATH', os.defpath)}",
        "HOME": str(folder / "home"),
        "LANG": "C.UTF-8",
        "PYTHONHASHSEED": "0",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONPATH": str(HERE / "witness"),
        "POOL_WITNESS": str(log),
        "COLUMNS": "100",
        **program.environment,
    }


def wait_or_kill(process: subprocess.Popen[bytes]) -> int | None:
    try:
        return process.wait(timeout=LIMIT)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return None


def outlived(session: int) -> list[int]:
    """Processes of the session that do not go by themselves. They are killed."""
    deadline = time.monotonic() + LINGER
    while (members := members_of(session)) and time.monotonic() < deadline:
        time.sleep(0.05)
    for pid in members:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    return members


def members_of(session: int) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                # Behind the name, which may have any characters: state, parent, group, session.
                state, _, _, of = (entry / "stat").read_text().rpartition(")")[2].split()[:4]
            except (OSError, ValueError):
                continue
            if int(of) == session and state not in "ZX":
                found.append(int(entry.name))
    return found


def testimony(log: Path) -> tuple[set[str], int]:
    """What the witness wrote."""
    lines = log.read_text() if log.exists() else ""
    tasks = sum(map(int, re.findall(r"^tasks (\d+)$", lines, re.MULTILINE)))
    return set(re.findall(r"^made (.+)$", lines, re.MULTILINE)), tasks


def digests(folder: Path) -> dict[str, str]:
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


# ---- comparison ----


def faults_of_plain(program: Program, plain: Run) -> list[str]:
    """Why the comparison would show nothing."""
    if plain.status is None:
        return [f"without procpool: killed after {LIMIT} s"]
    faults = []
    if plain.status != program.status:
        faults.append(f"without procpool: status {plain.status}, not {program.status}\n{plain.errors[-2000:]}")
    if {pool.rpartition(".")[2] for pool in plain.pools} != {program.uses}:
        faults.append(f"without procpool: it made {sorted(plain.pools) or 'no pool'}")
    return faults


def faults_of_ours(program: Program, plain: Run, ours: Run) -> list[str]:
    """How the run with procpool differs."""
    if ours.status is None:
        return [f"under procpool: killed after {LIMIT} s\n{ours.errors[-2000:]}"]
    faults = []
    if not ours.pools or not all(pool.startswith("procpool.") for pool in ours.pools) or not ours.tasks:
        faults.append(f"under procpool: it made {sorted(ours.pools) or 'no pool'} and gave it {ours.tasks} tasks")
    if ours.status != plain.status:
        faults.append(f"status {plain.status} became {ours.status}")
    if ours.left:
        faults.append(f"under procpool: left {len(ours.left)} processes behind")
    faults += difference("standard output", plain.output, ours.output)
    faults += difference("standard error", plain.errors, ours.errors)
    changed = sorted(path for path, _ in set(plain.files.items()) ^ set(ours.files.items()))
    if changed:
        faults.append(f"files that differ: {', '.join(dict.fromkeys(changed))}")
    return faults


def difference(what: str, plain: str, ours: str) -> list[str]:
    lines = difflib.unified_diff(plain.splitlines(), ours.splitlines(), "plain", "procpool", lineterm="", n=1)
    shown = list(lines)[:SHOWN]
    return [f"{what} differs:\n" + "\n".join(shown)] if shown else []


if __name__ == "__main__":
    sys.exit(main())

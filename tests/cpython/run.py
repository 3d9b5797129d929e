"""CPython's own tests against procpool, for every interpreter: `python tests/cpython/run.py PYTHON...`.

Each PYTHON is one that has procpool installed. Every start method is run in a process of its own, two at a time. The tests
are those of the interpreter's installed `test` package. Where that lacks some, they are borrowed: from Debian's package of
that version's test suite, or else from the next version that has them. What cannot apply is in not-applicable.txt.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

HERE = Path(__file__).resolve().parent
BORROWED = HERE.parents[1] / "target" / "cpython"
METHODS = ("fork", "forkserver", "spawn")

#: Seconds for one process; a single hanging test is ended, and named, long before.
LIMIT = 1200

#: An interpreter's version, its library, and where its packages are.
ASK = """
import sys, sysconfig
print("%d.%d" % sys.version_info[:2], sysconfig.get_path("stdlib"), sysconfig.get_path("purelib"), sep="\\n")
"""

#: A line for the interpreter's own start, so that it begins with startup.py where this is asked for.
START = "import os; os.environ.get('PROCPOOL_STARTUP') and exec(open(os.environ['PROCPOOL_STARTUP']).read(), {})\n"


@dataclass
class Interpreter:
    """A Python that has procpool."""

    path: str
    version: str
    tests: Path
    borrowed: Optional[Path]

    @classmethod
    def at(cls, path: str) -> Interpreter:
        path = os.path.abspath(path)
        version, library, packages = subprocess.check_output([path, "-c", ASK], text=True).splitlines()
        Path(packages, "zz-procpool-tests.pth").write_text(START)
        return cls(path, version, Path(library, "test"), None)

    def has_executor_tests(self) -> bool:
        return any(self.tests.glob("test_concurrent_futures*"))


@dataclass
class Run:
    """One process of tests."""

    interpreter: Interpreter
    what: str
    method: str
    on_death: str
    counts: Optional[dict[str, Any]] = None
    output: str = ""

    def __str__(self) -> str:
        breaking = ", on_worker_death=break" if self.on_death == "break" else ""
        return f"{self.interpreter.version} {self.method} {self.what}{breaking}"

    def go(self) -> Run:
        environment = {
            **os.environ,
            "PROCPOOL_STARTUP": str(HERE / "startup.py"),
            "START_METHOD": self.method,
            "ON_WORKER_DEATH": self.on_death,
            "BORROWED_TESTS": str(self.interpreter.borrowed or "") if self.what == "executors" else "",
        }
        command = [self.interpreter.path, str(HERE / "suite.py"), self.what, self.method, self.on_death]
        with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile("w+") as output:
            child = subprocess.Popen(
                command, env=environment, cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
            )
            try:
                child.wait(LIMIT)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
            output.seek(0)
            self.output = output.read()
        lines = self.output.splitlines()
        try:
            self.counts = json.loads(lines[-1])
        except (IndexError, ValueError):
            # It was ended: by its limit, or by a crash.
            self.counts = None
        return self

    def failed(self) -> list[str]:
        return ["did not end"] if self.counts is None else self.counts["failed"]

    def report(self) -> str:
        if self.counts is None:
            return f"{self}: did not end"
        counts = self.counts
        text = f"{self}: {counts['passed']} passed, {len(counts['failed'])} failed"
        if counts["skipped"]:
            text += f", {len(counts['skipped'])} skip themselves"
        if counts["left_out"]:
            text += f", {len(counts['left_out'])} cannot apply"
        return text


def borrow(interpreters: list[Interpreter]) -> None:
    """Finds tests for those that lack them."""
    for number, interpreter in enumerate(interpreters):
        if interpreter.has_executor_tests():
            continue
        folder = BORROWED / interpreter.version
        if not folder.exists() and not from_debian(interpreter.version, folder):
            lenders = [later.tests for later in interpreters[number + 1 :] if later.has_executor_tests()]
            if not lenders:
                sys.exit(f"no tests of concurrent.futures for Python {interpreter.version}: install its test suite")
            copy_tests(lenders[0], folder)
            # They need what they are used to.
            copy_tree(lenders[0] / "support", folder)
        interpreter.borrowed = folder


def from_debian(version: str, folder: Path) -> bool:
    package = f"libpython{version}-testsuite"
    with tempfile.TemporaryDirectory() as scratch:
        fetched = subprocess.run(["apt-get", "download", package], cwd=scratch, capture_output=True)
        archives = list(Path(scratch).glob("*.deb"))
        if fetched.returncode != 0 or not archives:
            return False
        subprocess.run(["dpkg-deb", "-x", archives[0], scratch], check=True)
        tests = Path(scratch, "usr/lib", f"python{version}", "test")
        return copy_tests(tests, folder)


def copy_tests(tests: Path, folder: Path) -> bool:
    found = list(tests.glob("test_concurrent_futures*"))
    folder.mkdir(parents=True, exist_ok=True)
    for path in found:
        if path.is_dir():
            copy_tree(path, folder)
        else:
            shutil.copy(path, folder)
    return bool(found)


def copy_tree(path: Path, folder: Path) -> None:
    shutil.copytree(path, folder / path.name, ignore=shutil.ignore_patterns("__pycache__"))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("python", nargs="+", help="an interpreter that has procpool")
    parser.add_argument("--method", action="append", choices=METHODS, help="only this start method")
    parser.add_argument("--what", action="append", choices=("pools", "executors"), help="only these tests")
    options = parser.parse_args()
    interpreters = [Interpreter.at(path) for path in options.python]
    interpreters.sort(key=lambda interpreter: [int(part) for part in interpreter.version.split(".")])
    borrow(interpreters)
    runs = [
        Run(interpreter, what, method, on_death)
        for interpreter in interpreters
        for method in options.method or METHODS
        for what, on_death in (("pools", "continue"), ("executors", "continue"), ("executors", "break"))
        if what in (options.what or ("pools", "executors"))
    ]
    passed = failed = 0
    reasons: dict[str, str] = {}
    with ThreadPoolExecutor(2) as executor:
        for run in executor.map(Run.go, runs):
            print(run.report(), flush=True)
            counts = run.counts
            if counts is None or counts["failed"]:
                failed += 1 if counts is None else len(counts["failed"])
                print(run.output)
            if counts is not None:
                passed += counts["passed"]
                reasons.update({".".join(name.split(".")[-2:]): why for name, why in counts["left_out"].items()})
    print("\ncannot apply:")
    for name, why in sorted(reasons.items()):
        print(f"  {name}: {why}")
    for run in runs:
        for name in run.failed():
            print(f"{run}: {name}")
    print(f"cpython: {passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

"""Runs CPython's own tests in this interpreter: `python suite.py pools|executors fork|spawn|forkserver continue|break`.

A line `running TEST` before each test, one for its end, and at last a line of JSON with the counts.
"""

import fnmatch
import importlib
import json
import os
import pkgutil
import sys
import unittest
from faulthandler import cancel_dump_traceback_later, dump_traceback_later
from pathlib import Path

NOT_APPLICABLE = Path(__file__).with_name("not-applicable.txt")

#: Seconds for one test; then all stacks are printed and the process ends.
LIMIT = 240

POOL_TESTS = ("TestPool", "TestPoolWorkerErrors", "TestPoolWorkerLifetime", "TestPoolNotLeakOnFailure")


def rules():
    """(pattern, conditions, reason) of the tests that cannot apply."""
    found = []
    for line in NOT_APPLICABLE.read_text().splitlines():
        if line.strip() and not line.startswith("#"):
            pattern, conditions, reason = (part.strip() for part in line.split("|"))
            found.append((pattern, set(conditions.split()), reason))
    return found


def rule_for(test, facts):
    """The first rule that holds for a test, given what is true of this run."""
    name = ".".join(test.id().split(".")[-2:])
    for pattern, conditions, reason in rules():
        if fnmatch.fnmatchcase(name, pattern) and conditions <= facts | {"always"}:
            return pattern, conditions, reason
    return None


def executor_modules():
    package = importlib.import_module("test.test_concurrent_futures")
    if not hasattr(package, "__path__"):
        return [package]
    names = [module.name for module in pkgutil.iter_modules(package.__path__) if module.name.startswith("test_")]
    return [importlib.import_module(f"{package.__name__}.{name}") for name in names]


def is_of_pools(test, method):
    kind = type(test).__name__
    return kind.endswith(POOL_TESTS) and not kind.startswith(("WithThreads", "WithManager"))


def is_of_executors(test, method):
    kind = type(test).__name__
    if kind == "FailingInitializerResourcesTest":
        return test._testMethodName == f"test_{method}"
    is_other = method == "fork" and kind.startswith("ProcessPoolForkserver")
    return kind.startswith(f"ProcessPool{method.capitalize()}") and not is_other


def flattened(tests):
    for test in tests:
        if isinstance(test, unittest.TestSuite):
            yield from flattened(test)
        else:
            yield test


def chosen(what, method, on_death):
    """The tests to run, and the names of those that cannot apply, with the reasons."""
    modules = [importlib.import_module("pools")] if what == "pools" else executor_modules()
    belongs = is_of_pools if what == "pools" else is_of_executors
    facts = {method, f"{sys.version_info.major}.{sys.version_info.minor}", on_death}
    if os.environ.get("BORROWED_TESTS"):
        facts.add("borrowed")
    run, left_out = [], {}
    for module in modules:
        for test in flattened(unittest.defaultTestLoader.loadTestsFromModule(module)):
            if not belongs(test, method):
                continue
            rule = rule_for(test, facts)
            if on_death == "break":
                # What the other mode left to this one, and nothing else.
                if rule is None and rule_for(test, facts - {"break"} | {"continue"}) is not None:
                    run.append(test)
            elif rule is None:
                run.append(test)
            elif "continue" not in rule[1]:
                left_out[test.id()] = rule[2]
    return run, left_out


class Result(unittest.TextTestResult):
    def startTest(self, test):
        print(f"running {test.id()}", flush=True)
        dump_traceback_later(LIMIT, exit=True)
        super().startTest(test)

    def stopTest(self, test):
        super().stopTest(test)
        cancel_dump_traceback_later()


def main(what, method, on_death):
    tests, left_out = chosen(what, method, on_death)
    # By module, so that each has its own set-up.
    runner = unittest.TextTestRunner(stream=sys.stdout, resultclass=Result, verbosity=2)
    result = runner.run(unittest.TestSuite(tests))
    bad = [test.id() if hasattr(test, "id") else str(test) for test, _ in result.failures + result.errors]
    skipped = {test.id(): reason for test, reason in result.skipped}
    passed = result.testsRun - len(bad) - len(skipped)
    print(json.dumps({"passed": passed, "failed": bad, "skipped": skipped, "left_out": left_out}), flush=True)
    # What the tests leave is theirs; that nothing of the pool is left, its own tests say.
    sys.stdout.flush()
    os._exit(bool(bad))


if __name__ == "__main__":
    main(*sys.argv[1:])

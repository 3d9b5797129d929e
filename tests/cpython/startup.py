"""What every interpreter of these tests begins with, those included that a test starts itself: procpool in the place of
the standard library's pools, and the tests that this interpreter's installation lacks."""

import os

import procpool

procpool.install()

if os.environ.get("ON_WORKER_DEATH") == "break":
    import concurrent.futures

    class ProcessPoolExecutor(procpool.ProcessPoolExecutor):
        """The standard library's behaviour, which some tests are about."""

        def __init__(self, *args, **kwds):
            super().__init__(*args, on_worker_death="break", **kwds)

    concurrent.futures.process.ProcessPoolExecutor = concurrent.futures.ProcessPoolExecutor = ProcessPoolExecutor

if os.environ.get("BORROWED_TESTS"):
    import test

    test.__path__.insert(0, os.environ["BORROWED_TESTS"])

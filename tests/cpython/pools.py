"""CPython's tests of multiprocessing for the start method START_METHOD, as its own test_multiprocessing_fork, _spawn and
_forkserver make them; some installations lack these."""

import os

from test import _test_multiprocessing

_test_multiprocessing.install_tests_in_module_dict(globals(), os.environ["START_METHOD"])

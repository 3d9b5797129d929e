import textwrap
import unittest


class TestText(unittest.TestCase):
    def test_lines_are_short(self):
        for width in range(10, 80):
            lines = textwrap.wrap("a plain sentence of some words " * 20, width)
            self.assertLessEqual(max(map(len, lines)), width)

    def test_fails_on_purpose(self):
        self.assertEqual(textwrap.dedent("  a"), "b")


class TestShorten(unittest.TestCase):
    def test_what_is_short_stays(self):
        self.assertEqual(textwrap.shorten("short", 10), "short")

    @unittest.expectedFailure
    def test_is_expected_to_fail(self):
        self.assertEqual(textwrap.shorten("short", 10), "long")

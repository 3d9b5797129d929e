import fractions
import statistics
import unittest


class TestFractions(unittest.TestCase):
    def test_thirds_make_a_whole(self):
        self.assertEqual(sum([fractions.Fraction(1, 3)] * 3), 1)


class TestStatistics(unittest.TestCase):
    def test_mean(self):
        self.assertEqual(statistics.mean(range(1001)), 500)

    def test_breaks_on_purpose(self):
        statistics.mean([])

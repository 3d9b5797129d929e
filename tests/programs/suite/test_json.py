import json
import unittest


class TestJson(unittest.TestCase):
    def test_numbers_come_back(self):
        for number in range(2000):
            self.assertEqual(json.loads(json.dumps({"number": number})), {"number": number})

    def test_rubbish_is_refused(self):
        with self.assertRaises(ValueError):
            json.loads("{")

    @unittest.skip("shows that skipped tests are counted")
    def test_skipped(self):
        self.fail("it ran")

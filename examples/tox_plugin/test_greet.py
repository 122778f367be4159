import unittest

from greet import greeting


class GreetTest(unittest.TestCase):
    def test_it(self) -> None:
        self.assertEqual(greeting("you"), "Hello you")

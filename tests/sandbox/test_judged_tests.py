"""Honest code beside its tests: whatever libraries and tests do to the process, nobody is accused."""
import importlib.util

import pytest

from hostile import BESIDE_BORROWERS, BORROWING
from z1.sandbox.sandbox import Limits, Sandbox

LIMITS = Limits(seconds=120, memory=4096)
SUM = "def total(numbers): return sum(numbers)\n"
TESTS = """
import unittest
class TestCases(unittest.TestCase):
    def test_sum(self): self.assertEqual(total([1, 2]), 3)
"""


@pytest.fixture(scope="module")
def sandbox():
    with Sandbox(slots=2, tools=True) as s: yield s


def passed(sandbox, source, tests=TESTS, limits=LIMITS):
    run = sandbox.tests(source, tests, limits)
    assert run.status == "ok", run
    assert run.value and set(run.value.values()) == {"passed"}, run.value
    return run.value


LIBRARIES = ["bs4", "cv2", "lxml.etree", "matplotlib.pyplot", "multiprocessing", "nltk", "numpy.testing", "pandas", "pandas.testing",
             "PIL.Image", "plistlib", "psutil", "pytest", "requests", "scipy.stats", "seaborn", "six.moves", "sklearn", "sqlite3",
             "statsmodels.api", "sympy", "torch", "torch.testing", "xml.etree.ElementTree", "yaml", "cProfile", "concurrent.futures",
             "asyncio", "tkinter", "xmlrpc.client", "logging.config", "pickle", "ctypes", "curses", "readline"]

@pytest.mark.parametrize("library", LIBRARIES)
def test_importing_a_library_is_no_bribe(sandbox, library):
    if not importlib.util.find_spec(library.partition(".")[0]): pytest.skip(f"{library} is not installed")
    passed(sandbox, f"import {library}\n{SUM}", f"import {library}\n{TESTS}")


USES = {
    "pandas": ("import pandas as pd\ndef f(): return pd.DataFrame({'a': [1, 2]})",
               "pd.testing.assert_frame_equal(f(), pd.DataFrame({'a': [1, 2]})); self.assertTrue((f()['a'] == [1, 2]).all())\n"
               "        self.assertIn('a', f()); self.assertEqual(f().shape, (2, 1))"),
    "numpy": ("import numpy as np\ndef f(): return np.arange(3)",
              "np.testing.assert_array_equal(f(), [0, 1, 2]); self.assertTrue(np.allclose(f(), [0, 1, 2])); self.assertIn(2, f())"),
    "matplotlib": ("import matplotlib.pyplot as plt\ndef f():\n    _, ax = plt.subplots()\n    ax.plot([1, 2], label='é')\n    ax.legend()\n"
                   "    ax.figure.canvas.draw()\n    return ax", "self.assertIsInstance(f(), plt.Axes); plt.close('all')"),
    "requests": ("import requests\ndef f(): return requests.get('http://x').json()",
                 "from unittest.mock import patch\n        with patch('requests.get') as get:\n            get.return_value.json.return_value = {'a': 1}\n"
                 "            self.assertEqual(f(), {'a': 1})\n            get.assert_called_once_with('http://x')"),
    "sklearn": ("import numpy as np\nfrom sklearn.linear_model import LinearRegression\n"
                "def f(): return LinearRegression().fit([[0], [1]], [0, 2])", "self.assertAlmostEqual(first=f().coef_[0], second=2, places=6)"),
    "torch": ("import torch\ndef f(): return torch.ones(2, requires_grad=True)",
              "torch.testing.assert_close(f(), torch.ones(2)); self.assertTrue((f() == 1).all()); f().sum().backward()"),
    "scipy": ("from scipy import stats\ndef f(): return stats.ttest_ind([1, 2, 3], [1, 2, 3])", "self.assertEqual(f().statistic, 0)"),
    "yaml": ("import yaml\ndef f(): return yaml.safe_load('a: [1, 2]')", "self.assertDictEqual(f(), {'a': [1, 2]})"),
    "plistlib": ("import plistlib\ndef f(): return plistlib.loads(plistlib.dumps({'a': 1}))", "self.assertEqual(f(), {'a': 1})"),
    "xml": ("import xml.etree.ElementTree as ET\ndef f(): return ET.fromstring('<a b=\"1\"/>')", "self.assertEqual(f().get('b'), '1')\n"
            "        with self.assertRaises(ET.ParseError): ET.fromstring('<a')"),
    "multiprocessing": ("from multiprocessing import Pool\ndef twice(x): return 2 * x\ndef f():\n    with Pool(2) as pool: return pool.map(twice, [1, 2])",
                        "self.assertEqual(f(), [2, 4])"),
    "sympy": ("import sympy\ndef f(): return sympy.Symbol('x') ** 2", "self.assertEqual(f(), sympy.Symbol('x') * sympy.Symbol('x'))"),
    "six": ("import six.moves\ndef f(): return list(six.moves.range(2))", "self.assertEqual(f(), [0, 1])"),
}

@pytest.mark.parametrize("library", USES)
def test_using_a_library_is_no_bribe(sandbox, library):
    if not importlib.util.find_spec(library): pytest.skip(f"{library} is not installed")
    source, body = USES[library]
    passed(sandbox, source, f"import unittest\nclass TestCases(unittest.TestCase):\n    def test_it(self):\n        {body}\n")


# name: (source, what the class of tests holds): all of it is done by honest code and honest tests.
HONEST = {
    "a cache of mock's": ("def f(p):\n    with open(p) as file: return file.read()",
        "    @patch('builtins.open', new_callable=mock_open, read_data='hello')\n    def test_it(self, opened): self.assertEqual(f('a'), 'hello')"),
    "keyword arguments": ("def f(x): return x",
        "    def test_it(self):\n        self.assertEqual(first=1, second=f(1), msg='m')\n        self.assertIn(member=1, container=[1])\n"
        "        self.assertListEqual(list1=[1], list2=f([1]))\n        self.assertDictEqual(d1={}, d2=f({}))\n"
        "        self.assertSetEqual(set1={1}, set2={1})\n        self.assertTupleEqual(tuple1=(), tuple2=())\n"
        "        self.assertSequenceEqual(seq1=[1], seq2=(1,), seq_type=None)\n        self.assertAlmostEqual(1, second=1.0, delta=.1)\n"
        "        self.assertCountEqual(first=[1, 2], second=[2, 1])\n        self.assertMultiLineEqual(first='a', second='a')\n"
        "        self.assertNotEqual(first=1, second=2)\n        self.assertTrue(expr=True)\n        self.assertIsInstance(obj=1, cls=int)\n"
        "        self.assertRegex(text='ab', expected_regex='b')\n        self.assertIs(expr1=None, expr2=None)\n"
        "        self.assertRaises(ValueError, callable_ := int, 'x')\n        self.assertGreater(a=2, b=1)"),
    "a patch that is never stopped": ("import os\ndef f(): return os.listdir('/')",
        "    def test_it(self):\n        patch('os.listdir', return_value=['x']).start()\n        self.assertEqual(f(), ['x'])"),
    "open, print, input put aside": ("def f(): return input()",
        "    def test_it(self):\n        import builtins\n        builtins.input = lambda *a: 'x'\n        builtins.print = builtins.open = Mock()\n"
        "        self.assertEqual(f(), 'x')"),
    "another environment": ("import os\ndef f(): return os.environ['A']",
        "    def test_it(self):\n        os.environ = {'A': '1'}\n        self.assertEqual(f(), '1')\n        sys.stdout = io.StringIO()\n        sys.argv = []"),
    "json that knows more": ("import json, datetime\njson.JSONEncoder.default = lambda self, o: o.isoformat()\njson._default_encoder = json.JSONEncoder()\n"
        "def f(): return json.dumps(datetime.date(2025, 4, 1))", "    def test_it(self): self.assertEqual(f(), '\"2025-04-01\"')"),
    "json mocked to the end": ("import json\ndef f(): return json.dumps(1)",
        "    def test_it(self):\n        patch('json.dumps', return_value='x').start()\n        self.assertEqual(f(), 'x')"),
    "warnings": ("import warnings\nwarnings.showwarning = lambda *a: None\nwarnings.simplefilter('error')\ndef f(): warnings.warn('w')",
        "    def test_it(self):\n        with self.assertWarns(UserWarning): f()\n        self.assertLogs()"),
    "an attribute for the judge": ("import unittest\nunittest.TestCase.maxDiff = None\nunittest.mock = __import__('unittest.mock').mock\ndef f(): return 1",
        "    def test_it(self): self.assertEqual(f(), 1)"),
    "a module of its own": ("import sys, types\nsys.modules['mine'] = types.ModuleType('mine')\nsys.modules['mine'].x = 1\ndef f(): return 1",
        "    def test_it(self):\n        import mine\n        self.assertEqual(f(), mine.x)"),
    "a module that the tests make up": ("def f(): return __import__('wiki').x",
        "    def test_it(self):\n        sys.modules['wiki'] = Mock(x=3)\n        self.assertEqual(f(), 3)"),
    "ANY, asked for": ("def f(): return {'id': object(), 'x': 1}", "    def test_it(self): self.assertEqual(f(), {'id': ANY, 'x': 1})"),
    "mocks compared": ("def f(g):\n    g(1, a=2)\n    return g",
        "    def test_it(self):\n        g = MagicMock()\n        self.assertEqual(f(g), g)\n        assert g == f(g) and g in [g]\n"
        "        self.assertEqual(g.call_args, call(1, a=2))\n        self.assertEqual(g.mock_calls.count(call(1, a=2)), 2)\n"
        "        self.assertIn(call(1, a=2), g.mock_calls)"),
    "a mock that holds everything": ("def f(g): return 'x' in g", "    def test_it(self):\n        g = MagicMock()\n"
        "        g.__contains__.return_value = True\n        self.assertTrue(f(g))\n        self.assertIn('x', g)"),
    "equality of its own": ("from dataclasses import dataclass\n@dataclass(order=True)\nclass P:\n    x: int\n    next: object = None\n"
        "class Bag(list):\n    def __contains__(self, x): return any(x == y for y in self)\ndef f():\n    p = P(1)\n    return Bag([p])",
        "    def test_it(self):\n        self.assertEqual(f(), [P(1)])\n        self.assertIn(P(1), f())\n        assert P(1) == f()[0] != P(2)"),
    "a ring": ("class Node:\n    def __init__(self): self.next = self\n    def __eq__(self, other): return isinstance(other, Node)\ndef f(): return Node()",
        "    def test_it(self):\n        ring = []\n        ring.append(ring)\n        self.assertEqual(f(), f())\n        self.assertTrue(len(ring) == 1 and ring)"),
    "a name of a builtin": ("from numpy import *\nid, list_, input = 3, list, None\ndef max(a, b): return a\ndef f(): return max(1, 2)",
        "    def test_it(self): self.assertTrue(isinstance(f(), int) and any([f()]))"),
    "subtests, setup and cleanup": ("def f(x): return x",
        "    @classmethod\n    def setUpClass(cls): cls.made = cls.helper = Mock()\n    def setUp(self): self.id_, self.maxDiff = 1, None\n"
        "    def tearDown(self): del self.id_\n    def test_it(self):\n        self.addCleanup(print)\n"
        "        for x in range(3):\n            with self.subTest(x=x): self.assertEqual(f(x), x)"),
    "an expected failure": ("def f(): return 1", "    @unittest.expectedFailure\n    def test_it(self): self.assertEqual(f(), 2)"),
    "a helper class": ("def f(): return 1", "    def check(self, x): self.assertEqual(x, 1)\n    def test_it(self): self.check(f())"),
    "types with an equality of the tests'": ("def f(): return 1.0", "    def test_it(self):\n"
        "        self.addTypeEqualityFunc(Decimal, lambda a, b, msg=None: None)\n        self.assertEqual(f(), 1)"),
    "closed streams": ("import sys\ndef f():\n    sys.stdout.close()\n    return 1", "    def test_it(self): self.assertEqual(f(), 1)"),
    "a profiler": ("import cProfile\ndef f():\n    with cProfile.Profile(): return 1", "    def test_it(self): self.assertEqual(f(), 1)"),
    "a program started": ("import subprocess, sys\ndef f(): return subprocess.run([sys.executable, '-c', 'print(1)'], capture_output=True).stdout",
        "    def test_it(self): self.assertEqual(f(), b'1\\n')"),
    "a thread": ("import threading\ndef f():\n    out = []\n    t = threading.Thread(target=out.append, args=(1,))\n    t.start(), t.join()\n    return out",
        "    def test_it(self): self.assertEqual(f(), [1])"),
    "a temporary file": ("import tempfile, os\ndef f():\n    with tempfile.NamedTemporaryFile('w', delete=False) as t: t.write('x')\n    return t.name",
        "    def test_it(self): self.assertTrue(os.path.exists(f())); self.assertTrue(os.path.isdir(os.path.expanduser('~')))"),
}
HEAD = "import io, os, sys, unittest\nfrom decimal import Decimal\nfrom unittest.mock import ANY, MagicMock, Mock, call, mock_open, patch\n"

@pytest.mark.parametrize("name", HONEST)
def test_honest_code_is_not_accused(sandbox, name):
    source, body = HONEST[name]
    passed(sandbox, source, f"{HEAD}class TestCases(unittest.TestCase):\n{body}\n")


def test_coroutines_are_tests(sandbox):
    tests = ("import unittest\nclass TestCases(unittest.IsolatedAsyncioTestCase):\n    async def test_right(self): self.assertEqual(await f(), 1)\n"
             "    async def test_wrong(self): self.assertEqual(await f(), 2)\n")
    run = sandbox.tests("async def f(): return 1", tests, LIMITS)
    assert run.status == "ok" and run.value["TestCases.test_right"] == "passed" and "1 != 2" in run.value["TestCases.test_wrong"]


def test_wrong_code_fails_by_every_assertion(sandbox):
    "The questions asked first do not swallow a failure, whatever the arguments are called."
    calls = ["Equal(first=f(), second=1)", "In(member=f(), container=[1])", "ListEqual(list1=[f()], list2=[1])", "DictEqual(d1={f(): 1}, d2={})",
             "True(expr=f() == 1)", "Is(expr1=f(), expr2=None)", "Raises(ValueError, f)", "AlmostEqual(f(), second=1)", "Greater(a=f(), b=5)"]
    tests = "import unittest\nclass TestCases(unittest.TestCase):\n" + "".join(
        f"    def test_{i}(self): self.assert{c}\n" for i, c in enumerate(calls)) + (
        "    def test_chain(self): assert 0 == f() == 0\n    def test_unequal(self):\n        if f() != 1: self.fail()\n    def test_within(self): assert f() in (1,)\n")
    run = sandbox.tests("def f(): return 0", tests, LIMITS)
    assert run.status == "ok" and len(run.value) == len(calls) + 3
    assert {k for k, v in run.value.items() if v == "passed"} == {"TestCases.test_chain"}, run.value


@pytest.mark.parametrize("name", BESIDE_BORROWERS)
def test_borrowed_assertions_must_be_the_libraries(sandbox, name):
    run = sandbox.tests(BESIDE_BORROWERS[name], BORROWING, LIMITS)
    assert run.status == "tampered" and run.stderr.endswith(("is the code's own", "is made up")), run


def test_honest_code_may_borrow(sandbox):
    passed(sandbox, "def f(x): return {1: 2, 2: 3, 3: 1} if x == 2 else 2.0 * x", BORROWING)


@pytest.mark.parametrize("said, seen", [("'\\ud83d'", "\\ud83d"), ("b'\\xff'.decode('utf-8', 'surrogateescape')", "\\udcff"),
                                        ("float('nan')", "nan"), ("2 ** 70", str(2 ** 70)), ("'😀'", "😀")])
def test_what_a_failed_assertion_says_is_text(sandbox, said, seen):
    for source in (f"def total(x): return {said}", f"def total(x): raise ValueError({said})"):
        run = sandbox.tests(source, TESTS, LIMITS)
        [word] = run.value.values()
        assert run.status == "ok" and seen in word and word.encode()


def test_reasons_and_names_are_text_too(sandbox):
    run = sandbox.tests("import unittest\nsetattr(unittest.TestCase, '__\\ud83d__', 1)\ndef total(x): return 3", TESTS, LIMITS)
    assert run.status == "tampered" and run.stderr == "TestCase.__\\ud83d__ was replaced"

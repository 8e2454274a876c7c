"""Write `benchmarks`, a folder laid out like a user's Z1_DATA: three problems of our own for each benchmark, in files
with the names and the schema of the real ones. Run it again after a change: `python data/examples/make_benchmarks.py`."""
import base64, csv, json, pickle, sys, zlib
from pathlib import Path

import pyarrow as pa
from pyarrow import parquet

MATH = [
    dict(problem=r"What is $\frac{1}{3} + \frac{1}{4}$? Give a fraction in lowest terms.",
         solution=r"Over twelve, $\frac{1}{3} + \frac{1}{4} = \frac{4}{12} + \frac{3}{12} = \boxed{\frac{7}{12}}$.",
         answer=r"\frac{7}{12}", subject="Prealgebra", level=1, unique_id="test/prealgebra/z1-1.json"),
    dict(problem="A rectangle is 3 cm longer than it is wide and has an area of 40 square centimetres. "
                 "How many centimetres long is its diagonal?",
         solution=r"From $w(w + 3) = 40$ follows $w = 5$, so the sides are 5 and 8 and the diagonal is "
                  r"$\sqrt{5^2 + 8^2} = \boxed{\sqrt{89}}$.",
         answer=r"\sqrt{89}", subject="Geometry", level=3, unique_id="test/geometry/z1-2.json"),
    dict(problem="How many of the integers from 1 to 100 are divisible by 4 or by 6, but not by both?",
         solution=r"25 are divisible by 4, 16 by 6 and 8 by 12, so $25 + 16 - 2 \cdot 8 = \boxed{25}$ by exactly one.",
         answer="25", subject="Counting & Probability", level=4, unique_id="test/counting_and_probability/z1-3.json")]

GSM8K = [
    dict(question="A baker sells rolls in bags of 6. On Monday he fills 14 bags and on Tuesday half as many. How many rolls "
                  "is that?",
         answer="On Tuesday he fills 14/2 = <<14/2=7>>7 bags.\nTogether that is 14 + 7 = <<14+7=21>>21 bags.\n"
                "So there are 21 * 6 = <<21*6=126>>126 rolls.\n#### 126"),
    dict(question="Vera saves $450 a month. A used car costs $9,900, and her aunt gives her $1,800. After how many months "
                  "can she buy it?",
         answer="She needs 9900 - 1800 = $<<9900-1800=8100>>8,100.\nThat takes 8100 / 450 = <<8100/450=18>>18 months."
                "\n#### 18"),
    dict(question="A hall has 25 rows of 48 seats. On an evening all but 75 of them are taken. How many people sit there?",
         answer="The hall has 25 * 48 = <<25*48=1200>>1,200 seats.\nSo 1200 - 75 = <<1200-75=1125>>1,125 people sit there."
                "\n#### 1,125")]

AIME24 = [dict(id=i, problem=problem, solution=solution, answer=answer, url="", year="2024") for i, problem, solution, answer in [
    (9001, "Find the number of positive integers less than 1000 that are divisible by 7 and leave a remainder of 1 when "
     "divided by 13.", r"Such numbers are $14 + 91k$; from $14 + 91k < 1000$ follows $k \le 10$, so there are $\boxed{011}$.", "011"),
    (9002, r"The roots of $x^2 - 20x + 27$ are $r$ and $s$. Find $r^2 + s^2$.",
     r"It is $(r + s)^2 - 2rs = 400 - 54 = \boxed{346}$.", "346"),
    (9003, "Six cards are numbered from 1 to 6 and laid in a row so that no two odd numbers are neighbours and no two even "
     "numbers are. In how many ways can that be done?", r"Odd and even alternate: $2 \cdot 3! \cdot 3! = \boxed{072}$.", "072")]]
AIME25 = [dict(id=str(i), problem=problem, answer=answer) for i, (problem, answer) in enumerate([
    ("Find the least positive integer that has exactly 15 positive divisors.", "144"),
    (r"A triangle has sides 13, 14 and 15. Find four times the radius of its incircle.", "16"),
    (r"Find the remainder when $2^{100}$ is divided by 125.", "1")])]

CRUXEVAL = [dict(code=code, input=input, output=output, id=f"z1_{i}") for i, (code, input, output) in enumerate([
    ("def f(words):\n    seen = {}\n    for i, w in enumerate(words):\n        seen.setdefault(w[:1], []).append(i)\n    return seen",
     "['ant', 'bee', 'ape']", "{'a': [0, 2], 'b': [1]}"),
    ("def f(text, n):\n    while len(text) < n:\n        text = '{' + text + '}'\n    return text[::-1]",
     "'x', 4", "'}}x{{'"),
    ("def f(a, b):\n    return a // b, a % b == 0", "17, 5", "(3, False)")])]

GPQA_FIELDS = ["Record ID", "Question", "Correct Answer", "Incorrect Answer 1", "Incorrect Answer 2",
               "Incorrect Answer 3", "Explanation", "High-level domain", "Subdomain"]
GPQA = [dict(zip(GPQA_FIELDS, values)) for values in [
    ("recZ1a", "A satellite moves from a circular orbit to another one of four times the radius. By what factor does "
     "its orbital period grow?", "8", "2", "4", "16", "The period grows as the radius to the power 3/2.", "Physics",
     "Mechanics"),
    ("recZ1f", "Which of these, dissolved in water at 0.1 mol/L and 25 °C,\ngives the lowest pH?",
     "hydrogen chloride", "acetic acid", "ammonium chloride", "sodium chloride", "It is the only strong acid.",
     "Chemistry", "General chemistry"),
    ("recZ1j", "In a population in Hardy-Weinberg equilibrium, 4% show a recessive trait. What share carries it "
     "without showing it?", "32%", "16%", "20%", "64%", "q = 0.2, so 2pq = 0.32.", "Biology", "Genetics")]]


def packed(tests):
    "Private tests as LiveCodeBench packs them."
    return base64.b64encode(zlib.compress(pickle.dumps(json.dumps(tests)))).decode()


def lcb(title, content, id, difficulty, kind, public, private, starter="", name=None, pack=packed):
    def tests(pairs): return [dict(input=i, output=o, testtype=kind) for i, o in pairs]
    return dict(question_title=title, question_content=content, platform="leetcode" if name else "atcoder",
                question_id=id, contest_id="z1", contest_date="2025-01-01T00:00:00", starter_code=starter,
                difficulty=difficulty, public_test_cases=json.dumps(tests(public)),
                private_test_cases=pack(tests(private)), metadata=json.dumps({"func_name": name} if name else {}))


STEPS = """A hiker wrote down the height of each of $N$ places on a path. How many times did the path lead up from one
place to the next?

Input

The first line holds $N$ ($1 \\le N \\le 1000$), the second the $N$ heights.

Output

One integer.

Sample Input

5
3 4 4 2 7

Sample Output

2"""
PLATEAU = """You are given a list of integers nums and an integer k. A plateau is a run of neighbouring elements in
which no two consecutive ones differ by more than k. Return the length of the longest plateau.
 
Example 1:

Input: nums = [1,2,2,9], k = 1
Output: 3
 
Constraints:

1 <= nums.length <= 10^5"""
PAVING = """A path of 2 by $N$ squares is paved with slabs of 1 by 2. In how many ways can that be done? Give the number
modulo 1000000007.

Input

One integer $N$ ($1 \\le N \\le 10^6$).

Output

One integer."""

LCB = {
    "test.jsonl": [
        lcb("Steps Up", STEPS, "z1_a", "easy", "stdin", [("5\n3 4 4 2 7\n", "2\n")],
            [("1\n9\n", "0\n"), ("4\n1 2 3 4\n", "3\n"), ("3\n-1 -5 0\n", "1\n")]),
        lcb("Longest Plateau", PLATEAU, "z1_b", "medium", "functional", [("[1, 2, 2, 9]\n1", "3")],
            [("[7]\n0", "1"), ("[1, 5, 9, 13, 3]\n4", "4")],
            "class Solution:\n    def longestPlateau(self, nums: List[int], k: int) -> int:\n        ",
            "longestPlateau")],
    "test2.jsonl": [
        lcb("Paving", PAVING, "z1_c", "hard", "stdin", [("3\n", "3\n")], [("1\n", "1\n"), ("100\n", "782204094\n")],
            pack=json.dumps)]}

# LiveCodeBench has no reference solutions; these are for our three problems.
LCB_SOLUTIONS = {
    "z1_a": "input()\nh = list(map(int, input().split()))\nprint(sum(a < b for a, b in zip(h, h[1:])))\n",
    "z1_b": "class Solution:\n    def longestPlateau(self, nums, k):\n        best = run = 1\n"
            "        for a, b in zip(nums, nums[1:]):\n            run = run + 1 if abs(a - b) <= k else 1\n"
            "            best = max(best, run)\n        return best\n",
    "z1_c": "a = b = 1\nfor _ in range(int(input())): a, b = b, (a + b) % 1000000007\nprint(a)\n"}


def bcb(number, ask, imports, signature, solution, test, libs):
    code = f"{imports}\n{signature}\n"
    return dict(task_id=f"BigCodeBench/z1-{number}", complete_prompt=f'{code}    """\n    {ask}\n    """\n',
                instruct_prompt=f"{ask}\nYou should write self-contained code starting with:\n```\n{code}```",
                canonical_solution=solution, code_prompt=code, test=test, entry_point="task_func",
                doc_struct=json.dumps({"description": [ask]}), libs=str(libs))


BCB = [
    bcb(1, "Count the words of a text, ignoring case and punctuation, and return the n most common ones with their "
        "counts, ties in alphabetical order.\nThe function should output with:\n    list: pairs of a word and a count",
        "import re\nfrom collections import Counter", "def task_func(text, n):", """\
    counts = Counter(re.findall(r'[a-z]+', text.lower()))
    return sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))[:n]
""", """\
import unittest
class TestCases(unittest.TestCase):
    def test_case_1(self):
        self.assertEqual(task_func('A cat, a dog. A CAT!', 2), [('a', 3), ('cat', 2)])
    def test_case_2(self):
        self.assertEqual(task_func('', 3), [])
    def test_case_3(self):
        self.assertEqual(task_func('b a', 1), [('a', 1)])
""", ["re", "collections"]),
    bcb(2, "Read a text of comma-separated values with the columns group and value, and return the mean value of each "
        "group as a dict.\nThe function should raise the exception for: ValueError if a value is not a number.\n"
        "The function should output with:\n    dict: group to mean",
        "import csv\nimport io\nfrom statistics import mean", "def task_func(text):", """\
    groups = {}
    for row in csv.DictReader(io.StringIO(text)):
        groups.setdefault(row['group'], []).append(float(row['value']))
    return {name: mean(values) for name, values in groups.items()}
""", """\
import unittest
class TestCases(unittest.TestCase):
    def setUp(self):
        self.text = 'group,value\\na,1\\nb,5\\na,2\\n'
    def test_means(self):
        self.assertEqual(task_func(self.text), {'a': 1.5, 'b': 5.0})
    def test_not_a_number(self):
        with self.assertRaises(ValueError):
            task_func(self.text + 'c,x\\n')
""", ["csv", "io", "statistics"]),
    bcb(3, "Write each of the given texts to a file of a zip archive in the given folder, called archive.zip, and "
        "return the path of the archive. texts maps file names to contents.\nThe function should output with:\n"
        "    str: the path of the archive",
        "import os\nimport zipfile", "def task_func(folder, texts):", """\
    path = os.path.join(folder, 'archive.zip')
    with zipfile.ZipFile(path, 'w') as archive:
        for name, text in texts.items():
            archive.writestr(name, text)
    return path
""", """\
import unittest, tempfile, zipfile
class TestCases(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
    def tearDown(self):
        self.folder.cleanup()
    def test_contents(self):
        path = task_func(self.folder.name, {'a.txt': 'one', 'b.txt': 'two'})
        with zipfile.ZipFile(path) as archive:
            self.assertEqual(archive.read('b.txt'), b'two')
    def test_name(self):
        self.assertTrue(task_func(self.folder.name, {}).endswith('archive.zip'))
""", ["os", "zipfile"])]

HUMANEVAL = [
    dict(task_id="HumanEval/z1-0", entry_point="middle", prompt='''\
def middle(a: int, b: int, c: int) -> int:
    """ Return the second smallest of three numbers.
    >>> middle(3, 1, 2)
    2
    """
''', canonical_solution="    return sorted((a, b, c))[1]\n", test="""

def check(candidate):
    assert candidate(3, 1, 2) == 2
    assert candidate(5, 5, 1) == 5
"""),
    dict(task_id="HumanEval/z1-1", entry_point="blocks", prompt='''\
from typing import List


def blocks(text: str) -> List[str]:
    """ Split a text into runs of equal characters.
    >>> blocks('aabc')
    ['aa', 'b', 'c']
    """
''', canonical_solution="""\
    out = []
    for ch in text:
        if out and out[-1][0] == ch: out[-1] += ch
        else: out.append(ch)
    return out
""", test="""

METADATA = {'author': 'z1'}


def check(candidate):
    assert candidate('aabc') == ['aa', 'b', 'c']
    assert candidate('') == []
"""),
    dict(task_id="HumanEval/z1-2", entry_point="untwist", prompt='''\
def twist(word: str) -> str:
    """ Move the first letter to the end. """
    return word[1:] + word[:1]


def untwist(word: str) -> str:
    """ Undo twist. """
''', canonical_solution="    return word[-1:] + word[:-1]\n", test="""

def check(candidate):
    for word in ('', 'a', 'abc'):
        assert candidate(twist(word)) == word
""")]

MBPP = [
    dict(task_id=90001, text="Write a function to find the number of days in a given number of weeks.",
         code="def days(weeks):\n    return 7 * weeks", test_setup_code="",
         challenge_test_list=["assert days(100) == 700"],
         test_list=["assert days(1) == 7", "assert days(0) == 0", "assert days(52) == 364"]),
    dict(task_id=90002, text="Write a function to sum the numbers of a linked list.",
         code="def total(node):\n    return node.value + total(node.rest) if node else 0", challenge_test_list=[],
         test_setup_code="class Node:\n    def __init__(self, value, rest=None):\n"
                         "        self.value, self.rest = value, rest",
         test_list=["assert total(None) == 0", "assert total(Node(3, Node(4))) == 7"]),
    dict(task_id=90003, text="Write a function to repeat each line of a text.",
         code="def echo(text):\n    return ''.join(line + '\\n' + line + '\\n' for line in text.split('\\n'))",
         test_setup_code="", challenge_test_list=[],
         test_list=["assert echo('a') == '''a\na\n'''", "assert echo('a\\nb') == 'a\\na\\nb\\nb\\n'"])]


def write(folder):
    "Write all files below a folder."
    def place(name):
        (folder/name).parent.mkdir(parents=True, exist_ok=True)
        return folder/name
    def jsonl(name, rows): place(name).write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
    jsonl("HuggingFaceH4/MATH-500/test.jsonl", MATH)
    jsonl("math-ai/aime25/test.jsonl", AIME25)
    jsonl("cruxeval-org/cruxeval/test.jsonl", CRUXEVAL)
    with open(place("Idavidrein/gpqa/gpqa_diamond.csv"), "w", encoding="utf-8", newline="") as f:
        table = csv.DictWriter(f, GPQA_FIELDS)
        table.writeheader()
        table.writerows(GPQA)
    for name, rows in LCB.items(): jsonl(f"livecodebench/code_generation_lite/{name}", rows)
    for name, rows in {"bigcode/bigcodebench-hard/data/v0.1.4-00000-of-00001.parquet": BCB,
                       "openai/openai_humaneval/openai_humaneval/test-00000-of-00001.parquet": HUMANEVAL,
                       "google-research-datasets/mbpp/full/test-00000-of-00001.parquet": MBPP,
                       "openai/gsm8k/main/test-00000-of-00001.parquet": GSM8K,
                       "HuggingFaceH4/aime_2024/data/train-00000-of-00001.parquet": AIME24}.items():
        parquet.write_table(pa.Table.from_pylist(rows), place(name))


if __name__ == "__main__": write(Path(sys.argv[1]) if sys.argv[1:] else Path(__file__).parent/"benchmarks")

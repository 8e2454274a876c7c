"Benchmarks: prompts pinned to the letter, loaders that name file, row and field of what is wrong."
import base64
import gzip
import importlib.util
import io
import json
import os
import pickle
import re
import shutil
import subprocess
import sys
import unittest
import zlib
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet
from transformers.utils.chat_template_utils import render_jinja_template

from z1.benchmarks import files
from z1.benchmarks.files import Hub, inflate, pickled_text, read_rows, unpacked_json
from z1.benchmarks.bigcodebench_humaneval_mbpp import count_tests
from z1.benchmarks.suites import (BENCHMARKS, Benchmark, ComputedRows, Protocol, get_benchmark, load_benchmark, read_benchmark,
                                  stratified)
from z1.benchmarks.values import grade_value
from z1.core import Problem, fingerprint
from z1.recipes.coder import QUESTIONS, question_problems
from z1.window import HINT, MATH_HINT

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT/"data"/"examples"/"benchmarks"
EVAL = ROOT.parent/"shared"/"eval"
HUBS = {name: b.source for name, b in BENCHMARKS.items() if isinstance(b.source, Hub)}
FILES = {name: f"{source.repository}/{source.files[0]}" for name, source in HUBS.items()}  # the first file of each
spec = importlib.util.spec_from_file_location("make_benchmarks", DATA.parent/"make_benchmarks.py")
made = importlib.util.module_from_spec(spec)
spec.loader.exec_module(made)


@pytest.fixture
def data(tmp_path, monkeypatch):
    "A copy of the sample folder that may be damaged."
    monkeypatch.delenv("Z1_DATA", raising=False)
    return shutil.copytree(DATA, tmp_path/"data")


def refused(*args, **kwargs):
    "What loading is refused with."
    with pytest.raises(ValueError) as e: load_benchmark(*args, **kwargs)
    return str(e.value)


def read_json(path): return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def write_json(path, rows): path.write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")


def edit(data, name, row, **values):
    "Change fields of a sample row, whatever its file's format; None removes one."
    path = data/FILES[name]
    rows = [dict(r) for _, r in read_rows(path)]
    rows[row - 1] |= values
    rows = [{k: v for k, v in r.items() if v is not None} for r in rows]
    if path.suffix == ".csv":
        with open(path, "w", encoding="utf-8", newline="") as f:
            table = made.csv.DictWriter(f, rows[0])
            table.writeheader(), table.writerows(rows)
    else:
        path.unlink()
        write_json(path.with_suffix(".jsonl"), rows)


# -- the protocol -------------------------------------------------------------------------------------------------

QWEN = ("{% if messages[0].role != 'system' %}<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a "
        "helpful assistant.<|im_end|>\n{% endif %}{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}"
        "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}")


def as_qwen(problem):
    turns = [{"role": "system", "content": problem.system}] * bool(problem.system)
    turns += [{"role": "user", "content": problem.prompt}]
    return render_jinja_template([turns], chat_template=QWEN, add_generation_prompt=True)[0][0] + problem.prefill


PINNED = {
    ("math500", 0): r"""<|im_start|>system
Please reason step by step, and put your final answer within \boxed{}.<|im_end|>
<|im_start|>user
What is $\frac{1}{3} + \frac{1}{4}$? Give a fraction in lowest terms.<|im_end|>
<|im_start|>assistant
""",
    ("gpqa-diamond", 1): r"""<|im_start|>system
Please reason step by step, and put your final answer within \boxed{}.<|im_end|>
<|im_start|>user
Which of these, dissolved in water at 0.1 mol/L and 25 °C,
gives the lowest pH?

A. sodium chloride
B. hydrogen chloride
C. ammonium chloride
D. acetic acid

Please reason step-by-step and put your choice letter without any other text with \boxed{} in the end.<|im_end|>
<|im_start|>assistant
""",
    ("livecodebench-v5", 1): """<|im_start|>system
You are a helpful assistant.<|im_end|>
<|im_start|>user

You will be given a question (problem specification) and will generate a correct Python program that matches the \
specification and passes all tests. You will NOT return anything except for the program.

Question: """ + made.PLATEAU + """

You will use the following starter code to write the solution to the problem and enclose your code within delimiters.
```python
class Solution:
    def longestPlateau(self, nums: List[int], k: int) -> int:
        \n```

<|im_end|>
<|im_start|>assistant
""",
    ("livecodebench-v5", 2): """<|im_start|>system
You are a helpful assistant.<|im_end|>
<|im_start|>user

You will be given a question (problem specification) and will generate a correct Python program that matches the \
specification and passes all tests. You will NOT return anything except for the program.

Question: """ + made.PAVING + """

Read the inputs from stdin solve the problem and write the answer to stdout (do not directly test on the sample \
inputs). Enclose your code within delimiters as follows.
```python
# YOUR CODE HERE
```

<|im_end|>
<|im_start|>assistant
""",
    ("gsm8k", 0): r"""<|im_start|>system
Please reason step by step, and put your final answer within \boxed{}.<|im_end|>
<|im_start|>user
A baker sells rolls in bags of 6. On Monday he fills 14 bags and on Tuesday half as many. How many rolls is that?<|im_end|>
<|im_start|>assistant
""",
    ("aime25", 2): r"""<|im_start|>system
Please reason step by step, and put your final answer within \boxed{}.<|im_end|>
<|im_start|>user
Find the remainder when $2^{100}$ is divided by 125.<|im_end|>
<|im_start|>assistant
""",
    ("cruxeval-o", 2): r"""<|im_start|>system
Please reason step by step.<|im_end|>
<|im_start|>user
```python
def f(a, b):
    return a // b, a % b == 0
```

`f(17, 5)`

What does this call return? Think step by step, and end with the value as a Python literal in \boxed{}.<|im_end|>
<|im_start|>assistant
""",
    ("bigcodebench-hard", 0): """<|im_start|>system
Please reason step by step.<|im_end|>
<|im_start|>user
Please provide a self-contained Python script that solves the following problem in a markdown code block:
```
Count the words of a text, ignoring case and punctuation, and return the n most common ones with their counts, ties in \
alphabetical order.
The function should output with:
    list: pairs of a word and a count
You should write self-contained code starting with:
```
import re
from collections import Counter
def task_func(text, n):
```
```
<|im_end|>
<|im_start|>assistant
Below is a Python script with a self-contained function that solves the problem and passes corresponding tests:
```python
"""}


@pytest.mark.parametrize("name, row", PINNED)
def test_a_prompt_is_this_text(name, row):
    assert as_qwen(load_benchmark(name, DATA, limit=3)[row]) == PINNED[name, row]


def test_the_stock_template_fills_in_a_system_turn_where_the_protocol_has_none():
    bare = replace(BENCHMARKS["math500"], protocol=Protocol())
    assert as_qwen(load_benchmark(bare, DATA, limit=1)[0]).startswith(
        "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n")


def test_limits_are_the_papers():
    found = {n: (b.size, b.grading, b.protocol.window, b.protocol.max_tokens) for n, b in BENCHMARKS.items()}
    assert found == {"math500": (500, "maths", 4096, 5000), "gpqa-diamond": (198, "choice", 4096, 5000),
                     "livecodebench-v5": (880, "code", 4096, 5000), "bigcodebench-hard": (148, "code", 4096, 5000),
                     "humaneval": (164, "code", 4096, 5000), "mbpp": (500, "code", 4096, 5000),
                     "gsm8k": (1319, "maths", 4096, 5000), "aime24": (30, "maths", 4096, 5000),
                     "aime25": (30, "maths", 4096, 5000), "cruxeval-o": (800, "value", 4096, 5000),
                     "nano-test": (500, "exact", 256, 320), "nano-words": (100, "exact", 256, 320)}
    lcb = BENCHMARKS["livecodebench-v5"]
    assert (lcb.protocol.seconds, lcb.protocol.block, lcb.protocol.rule) == (30, "first", "lcb")
    assert lcb.source.files == ("test.jsonl", "test2.jsonl", "test3.jsonl", "test4.jsonl", "test5.jsonl")


def test_every_benchmark_of_the_paper_uses_the_plain_hint_and_cruxeval_the_one_for_boxes():
    assert {n for n in FILES if BENCHMARKS[n].protocol.hint != HINT} == {"cruxeval-o"}, "the scripts define a boxed hint and use it nowhere"
    assert BENCHMARKS["cruxeval-o"].protocol.hint == MATH_HINT


def test_mathematics_is_asked_in_one_way():
    assert len({BENCHMARKS[n].protocol for n in ("math500", "gsm8k", "aime24", "aime25")}) == 1


@pytest.mark.parametrize("wrong", [dict(window=0), dict(window=5000), dict(block="third"), dict(rule="kind")])
def test_a_protocol_that_cannot_be(wrong):
    with pytest.raises(ValueError, match=f"Protocol.{next(iter(wrong))} is "): Protocol(**wrong)


def test_a_grading_nobody_does():
    with pytest.raises(ValueError, match="'mine': grading is 'vibes': use one of maths, choice, code, exact, value"):
        Benchmark("mine", ComputedRows(list), 1, {}, dict, "vibes")


# -- gold and references ------------------------------------------------------------------------------------------

def passes(problem, source=None):
    "Whether a trusted solution passes a problem's unittest classes."
    gold, space = json.loads(problem.answer), {"__name__": "solution"}
    exec((problem.reference if source is None else source) + "\n" + gold["tests"], space)
    suite = unittest.TestSuite(unittest.defaultTestLoader.loadTestsFromTestCase(c) for c in space.values()
                               if isinstance(c, type) and issubclass(c, unittest.TestCase))
    result = unittest.TextTestRunner(stream=io.StringIO()).run(suite)
    return result.wasSuccessful() and result.testsRun == gold["count"]


@pytest.mark.parametrize("name", ["bigcodebench-hard", "humaneval", "mbpp"])
def test_references_pass_their_tests_and_an_empty_function_does_not(name):
    for problem in load_benchmark(name, DATA, limit=3):
        entry = json.loads(problem.answer)["entry"]
        assert f"def {entry}(" in problem.reference
        assert passes(problem)
        assert not passes(problem, f"def {entry}(*args): return None")


def test_the_samples_of_livecodebench_are_solvable():
    for problem in load_benchmark("livecodebench-v5", DATA, limit=3):
        gold, source, space = json.loads(problem.answer), made.LCB_SOLUTIONS[problem.id], {}
        assert not problem.reference
        if gold["kind"] == "stdin":
            runs = [subprocess.run([sys.executable, "-c", source], input=i, capture_output=True, text=True)
                    for i in gold["inputs"]]
            assert [r.stdout for r in runs] == gold["outputs"] and len(runs) >= 3
        else:
            exec(source, space)
            method = getattr(space["Solution"](), gold["name"])
            assert [method(*a) for a in gold["arguments"]] == gold["outputs"] == [3, 1, 4]


def test_tests_are_counted_as_unittest_would():
    source = """
import unittest
from unittest import TestCase
class A(TestCase):
    def test_a(self): pass
    def testB(self): pass
    def setUp(self): pass
    def helper_test(self): pass
    x = 1
class B(A):
    def test_a(self): pass
    async def test_c(self): pass
class C(unittest.TestCase): pass
class D:
    def test_d(self): pass
"""
    assert count_tests(source) == 5
    space = {}
    exec(source, space)
    found = [unittest.defaultTestLoader.getTestCaseNames(space[c]) for c in "ABC"]
    assert sum(map(len, found)) == 5


@given(st.integers(0, 2**40), st.text(min_size=1), st.permutations(["w", "x", "y", "z"]))
def test_the_letter_is_always_the_right_option(seed, record, options):
    row = dict(zip(("Correct Answer", "Incorrect Answer 1", "Incorrect Answer 2", "Incorrect Answer 3"), options))
    made = BENCHMARKS["gpqa-diamond"].problem({"Record ID": record, "Question": "?", **row}, seed)
    assert f"\n{made['answer']}. {row['Correct Answer']}\n" in made["prompt"]
    assert sorted(re.findall(r"^([A-D])\. \w$", made["prompt"], re.M)) == list("ABCD")


def test_options_depend_on_seed_and_record_alone(data):
    before = {p.id: p for p in load_benchmark("gpqa-diamond", data, limit=3)}
    lines = (data/FILES["gpqa-diamond"]).read_text().splitlines(keepends=True)
    (data/FILES["gpqa-diamond"]).write_text(lines[0] + lines[-1] + "".join(lines[1:-1]))
    assert {p.id: p for p in load_benchmark("gpqa-diamond", data, limit=3)} == before
    assert any({p.id: p for p in load_benchmark("gpqa-diamond", data, limit=3, seed=s)} != before for s in range(1, 5))


# -- loading ------------------------------------------------------------------------------------------------------

def test_the_sample_files_are_what_their_script_writes(tmp_path):
    made.write(tmp_path)
    def names(folder): return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())
    assert names(tmp_path) == names(DATA)
    for name in names(DATA):
        fresh, kept = ([row for _, row in read_rows(folder/name)] for folder in (tmp_path, DATA))
        assert fresh == kept, f"{name}: run data/examples/make_benchmarks.py"


@pytest.mark.parametrize("name", BENCHMARKS)
def test_every_benchmark_loads_three_rows(name, monkeypatch):
    monkeypatch.setenv("Z1_DATA", str(DATA))
    problems = load_benchmark(name, limit=3)
    assert [p.benchmark for p in problems] == [name] * 3
    assert problems == load_benchmark(BENCHMARKS[name], DATA, limit=3)


def test_the_nano_suites_are_the_recipes():
    from z1.recipes.nano import NANO, test_problems, word_problems
    assert load_benchmark("nano-test", limit=40) == test_problems(replace(NANO, test_problems=40))
    assert load_benchmark("nano-words") == word_problems(NANO)


def test_a_limit_reads_no_further(data):
    path = data/FILES["livecodebench-v5"]
    path.write_text(path.read_text() + "rubbish")
    (path.parent/"test2.jsonl").unlink()
    assert [p.id for p in load_benchmark("livecodebench-v5", data, limit=2)] == ["z1_a", "z1_b"]
    problems = read_benchmark("livecodebench-v5", data)
    assert [next(problems).id, next(problems).id] == ["z1_a", "z1_b"]
    with pytest.raises(ValueError, match="test.jsonl, row 3: cannot be read"): next(problems)


@pytest.mark.parametrize("limit", [0, -1, True, 1.5, "3"])
def test_a_limit_that_is_no_number_of_rows(limit):
    assert refused("math500", DATA, limit=limit) == f"limit is {limit!r}: a number of rows, 1 or more, or None for all"


def test_an_unknown_benchmark():
    assert refused("arc") == f"unknown benchmark 'arc': use one of {', '.join(BENCHMARKS)}, or pass a Benchmark"
    assert get_benchmark(BENCHMARKS["mbpp"]) is get_benchmark("mbpp")


@pytest.mark.parametrize("name", FILES)
def test_a_wrong_number_of_rows(name, data):
    for extra in BENCHMARKS[name].source.files[2:]: (data/BENCHMARKS[name].source.repository/extra).write_text("")
    size = BENCHMARKS[name].size
    said = refused(name, data)
    assert f"{name}: 3 rows where {size} were expected" in said and "partial=True" in said and "limit=N" in said
    assert "3 rows where 4 were expected" in refused(name, data, limit=4)
    assert len(load_benchmark(name, data, partial=True)) == 3
    assert refused(replace(BENCHMARKS[name], size=2), data).startswith(f"{name}: 3 rows where 2 were expected")


def test_no_rows_at_all(data):
    (data/FILES["math500"]).write_text("")
    assert refused("math500", data, partial=True) == "math500: there are no rows; fetch its files again"


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file(name, data):
    (data/FILES[name]).unlink()
    said = refused(name, data, limit=1)
    assert FILES[name] in said and f"hf download {BENCHMARKS[name].source.repository}" in said and "Z1_DATA" in said


def test_offline_and_missing_is_one_sentence_with_both_ways(tmp_path):
    code = "from z1.benchmarks.suites import load_benchmark; load_benchmark('gpqa-diamond', limit=3)"
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path), "Z1_DATA": ""}
    done = subprocess.run([sys.executable, "-c", code], env=env, cwd=ROOT, capture_output=True, text=True)
    said = done.stderr.strip().splitlines()[-1]
    assert "Idavidrein/gpqa/gpqa_diamond.csv: cannot be fetched from the hub" in said
    assert "go online" in said and "gated" in said and "set Z1_DATA=FOLDER" in said


def test_a_named_folder_alone_counts(data, monkeypatch):
    def never(*args, **kwargs): raise AssertionError("downloaded")
    monkeypatch.setattr(Hub, "download", never)
    monkeypatch.setenv("Z1_DATA", str(data/"nowhere"))
    assert "nowhere" in refused("math500", limit=1)
    assert len(load_benchmark("math500", data, limit=1)) == 1


@pytest.mark.parametrize("name", [n for n in FILES if not FILES[n].endswith(".parquet")])
def test_a_gzipped_file_is_the_same_file(name, data):
    path, before = data/FILES[name], load_benchmark(name, data, limit=2)
    path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()
    assert load_benchmark(name, data, limit=2) == before


@pytest.mark.parametrize("ending, pack", [(".jsonl", bytes), (".jsonl.gz", gzip.compress)])
@pytest.mark.parametrize("name", [n for n in FILES if FILES[n].endswith(".parquet")])
def test_json_lines_may_stand_for_parquet(name, ending, pack, data):
    path, before = data/FILES[name], load_benchmark(name, data, limit=3)
    text = "".join(json.dumps(r) + "\n" for _, r in read_rows(path))
    path.with_suffix(ending).write_bytes(pack(text.encode()))
    path.unlink()
    assert load_benchmark(name, data, limit=3) == before


def test_without_a_folder_the_hub_is_asked(monkeypatch):
    import huggingface_hub
    asked = []
    def fetch(repository, name, repo_type, revision):
        asked.append((repository, name, repo_type, revision))
        return str(DATA/repository/name)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fetch)
    monkeypatch.delenv("Z1_DATA", raising=False)
    for name in FILES: assert load_benchmark(name, limit=1) == load_benchmark(name, DATA, limit=1)
    assert asked == [(s.repository, s.files[0], "dataset", "main") for s in HUBS.values()]


# -- damage -------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("name, lost", [("math500", 3), ("math500", 60), ("gpqa-diamond", 12), ("gpqa-diamond", 60)])
def test_a_torn_last_line(name, lost, data):
    path = data/FILES[name]
    path.write_bytes(path.read_bytes()[:-lost])
    said = refused(name, data, partial=True)
    assert f"{path.name}, row 3: cannot be read" in said and "fetch it again" in said


@pytest.mark.parametrize("left", [0, 10, 0.5, 0.99])
@pytest.mark.parametrize("name", [n for n in FILES if FILES[n].endswith(".parquet")])
def test_a_torn_parquet_file(name, left, data):
    path = data/FILES[name]
    whole = path.read_bytes()
    path.write_bytes(whole[:left if isinstance(left, int) else int(left * len(whole))])
    assert re.search(rf"{path.name}, row 1: cannot be read .*fetch it again", refused(name, data, limit=1))


@given(st.data())
def test_no_torn_text_file_loads_as_a_whole_one(data):
    import tempfile
    whole = (DATA/FILES["math500"]).read_bytes()
    kept = data.draw(st.integers(0, len(whole) - 2))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)/FILES["math500"]
        path.parent.mkdir(parents=True)
        path.write_bytes(whole[:kept])
        three = replace(BENCHMARKS["math500"], size=3)
        with pytest.raises(ValueError, match=r"row \d|rows"): load_benchmark(three, folder)


def test_an_archive_without_its_end(data):
    path = data/FILES["math500"]
    path.with_name("test.jsonl.gz").write_bytes(gzip.compress(path.read_bytes())[:-100])
    path.unlink()
    assert re.search(r"test.jsonl.gz, row \d: cannot be read \(EOFError", refused("math500", data))


@pytest.mark.parametrize("junk", [b"\xff\xfe\x00", b"[1, 2]\n", b"null\n", b"[" * 100_000, b"<html>not found</html>"],
                         ids=["bytes", "list", "null", "deep", "html"])
def test_a_file_of_something_else(junk, data):
    (data/FILES["math500"]).write_bytes(junk)
    assert "MATH-500/test.jsonl, row 1: cannot be read" in refused("math500", data)


def test_a_csv_row_with_too_many_fields(data):
    path = data/FILES["gpqa-diamond"]
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:2], lines[-1] + ",more,and more"]))
    said = refused("gpqa-diamond", data)
    assert "gpqa_diamond.csv, row 2: cannot be read (ValueError: more or fewer values" in said


def test_a_format_nobody_reads(tmp_path):
    with pytest.raises(ValueError, match="x.arrow: rows are read from .jsonl, .json, .csv, .tsv, .parquet files; convert it"):
        list(read_rows(tmp_path/"x.arrow"))


COLUMNS = [(name, field) for name in FILES for field in BENCHMARKS[name].columns]


@pytest.mark.parametrize("name, field", COLUMNS)
def test_a_missing_column(name, field, data):
    edit(data, name, 2, **{field: None}) if FILES[name][-4:] != ".csv" else rename(data/FILES[name], field)
    said = refused(name, data, limit=3)
    assert re.search(rf"{Path(FILES[name]).stem}\.\w+, row [12]: field {re.escape(repr(field))} is missing", said), said
    assert "fetch it again" in said


def rename(path, field): path.write_text(path.read_text().replace(field, f"{field} (old)", 1))


@pytest.mark.parametrize("name, field", [c for c in COLUMNS if c[0] != "gpqa-diamond"])
def test_a_column_of_the_wrong_type(name, field, data):
    wrong = {str: 7, int: "7"}.get(BENCHMARKS[name].columns[field], ["assert True", 7])
    edit(data, name, 1, **{field: wrong})
    said = refused(name, data, limit=3)
    file = Path(FILES[name]).with_suffix(".jsonl").name
    assert re.search(rf"{file}, row 1: field {re.escape(repr(field))} is .*, but must be ", said), said


def test_a_wrong_schema_of_a_parquet_file(data):
    path = data/FILES["mbpp"]
    rows = [r | {"task_id": str(r["task_id"])} for _, r in read_rows(path)]
    parquet.write_table(pa.Table.from_pylist(rows), path)
    assert "00001.parquet, row 1: field 'task_id' is '90001', but must be int" in refused("mbpp", data)


@pytest.mark.parametrize("name, field", [
    ("math500", "unique_id"), ("gpqa-diamond", "Record ID"), ("livecodebench-v5", "question_id"),
    ("bigcodebench-hard", "task_id"), ("humaneval", "task_id"), ("mbpp", "task_id"),
    ("gsm8k", "question"), ("aime24", "id"), ("aime25", "id"), ("cruxeval-o", "id")])
def test_a_duplicate_id(name, field, data):
    [(_, first), *_] = read_rows(data/FILES[name])
    edit(data, name, 2, **{field: first[field]})
    said, [id, *_] = refused(name, data, limit=3), [p.id for p in load_benchmark(name, DATA, limit=3)]
    assert re.search(rf", row 2: id '{id}' is that of .*, row 1 too; drop one", said) and (name == "gsm8k" or str(first[field]) in id), said


def test_a_duplicate_id_in_another_file(data):
    path = data/FILES["livecodebench-v5"]
    shutil.copy(path, path.with_name("test2.jsonl"))
    said = refused("livecodebench-v5", data)
    assert re.search("test2.jsonl, row 1: id 'z1_a' is that of .*test.jsonl, row 1 too", said), said


@pytest.mark.parametrize("field, part", [("answer", "answer"), ("problem", "prompt"), ("unique_id", "id")])
def test_an_empty_field(field, part, data):
    edit(data, "math500", 2, **{field: " \n"})
    assert f"test.jsonl, row 2: the {part} is empty" in refused("math500", data, limit=3)


# -- LiveCodeBench's packed tests ---------------------------------------------------------------------------------

def packed(obj, protocol=4): return base64.b64encode(zlib.compress(pickle.dumps(obj, protocol))).decode()


class Trap:
    def __init__(self, path): self.path = str(path)
    def __reduce__(self): return open, (self.path, "w")


PAIR = {"input": "1\n", "output": "1\n", "testtype": "stdin"}


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_of_a_class_is_refused_unexecuted(protocol, data, tmp_path):
    trap = packed(Trap(tmp_path/"sprung"), protocol)
    edit(data, "livecodebench-v5", 2, private_test_cases=trap)
    said = refused("livecodebench-v5", data, limit=3)
    where = "test.jsonl, row 2: field 'private_test_cases'"
    assert re.search(f"{where}: a pickle with the command .* it was not unpickled", said), said
    assert not (tmp_path/"sprung").exists()
    pickle.loads(zlib.decompress(base64.b64decode(trap))).close()
    assert (tmp_path/"sprung").exists(), "the trap works"


@pytest.mark.parametrize("obj", [[PAIR], {"a": "b"}, b"[]", 1, None, ("[]",)], ids=repr)
def test_a_pickle_of_anything_but_a_string_is_refused(obj):
    with pytest.raises(ValueError, match="a pickle"): unpacked_json(packed(obj))


@given(st.text(), st.integers(0, pickle.HIGHEST_PROTOCOL))
def test_a_pickled_string_is_read_without_unpickling(text, protocol):
    assert pickled_text(pickle.dumps(text, protocol)) == text


@given(st.binary(max_size=200))
def test_no_bytes_make_the_reader_of_pickles_fall_over(data):
    try: assert isinstance(pickled_text(data), str)
    except ValueError: pass


def damaged():
    good = packed(json.dumps([PAIR]))
    raw = base64.b64decode(good)
    yield "neither JSON nor base64", good[:-3] + "*=="
    yield "neither JSON nor base64", good[:-1]
    yield "not a zlib stream", base64.b64encode(b"x" + raw).decode()
    yield "without its end", base64.b64encode(raw[:-6]).decode()
    yield "a pickle|pickle exhausted|not enough data", base64.b64encode(zlib.compress(pickle.dumps("[]")[:-2])).decode()
    yield "Expecting property name", packed("[{,}]")
    yield "not a list", packed('{"input": ""}')
    yield "test 1: it: field 'input' is missing", packed("[1]")
    yield "test 2: it: field 'output' is missing", packed(json.dumps([PAIR, {"input": "", "testtype": "stdin"}]))
    yield "test 1: it: field 'output' is 3", packed(json.dumps([PAIR | {"output": 3}]))
    yield "test 1: its testtype is 'oracle'", packed(json.dumps([PAIR | {"testtype": "oracle"}]))
    yield "test 1: Expecting value", packed(json.dumps([PAIR | {"testtype": "functional", "output": "?"}]))
    yield "of 2 kinds", packed(json.dumps([PAIR | {"testtype": "functional"}]))
    yield "maximum recursion|Expecting value", packed("[" * 100_000)


@pytest.mark.parametrize("reason, text", list(damaged()), ids=[r for r, _ in damaged()])
def test_damaged_private_tests(reason, text, data):
    edit(data, "livecodebench-v5", 1, private_test_cases=text)
    said = refused("livecodebench-v5", data, limit=3)
    assert re.search(f"test.jsonl, row 1: field 'private_test_cases': .*({reason})", said), said


def test_a_zip_bomb_is_refused_unexploded(data, monkeypatch):
    monkeypatch.setattr(files, "MOST_BYTES", 1_000_000)
    bomb = base64.b64encode(zlib.compress(bytes(300_000_000), 9)).decode()
    edit(data, "livecodebench-v5", 2, private_test_cases=bomb)
    said = refused("livecodebench-v5", data, limit=3)
    assert "test.jsonl, row 2: field 'private_test_cases': unfolds to more than 1,000,000 bytes" in said


@given(st.binary(max_size=5000), st.integers(1, 6000))
def test_what_is_inflated_is_whole_or_refused(data, most):
    folded = zlib.compress(data)
    if len(data) <= most: assert inflate(folded, most) == data
    else:
        with pytest.raises(ValueError, match="unfolds to more than"): inflate(folded, most)


@pytest.mark.parametrize("field, value, reason", [
    ("metadata", "{}", "there is no func_name"), ("metadata", "[]", "there is no func_name"),
    ("metadata", "{", "Expecting property name"), ("difficulty", "evil", "'evil' is not one of easy, medium, hard"),
    ("public_test_cases", "[", "Expecting value"),
    ("public_test_cases", "no JSON", "neither JSON nor base64")])
def test_other_fields_of_livecodebench(field, value, reason, data):
    edit(data, "livecodebench-v5", 2, **{field: value})
    said = refused("livecodebench-v5", data, limit=3)
    assert f"test.jsonl, row 2: field '{field}': {reason}" in said


def test_a_problem_without_tests(data):
    edit(data, "livecodebench-v5", 1, public_test_cases="[]", private_test_cases="[]")
    assert "row 1: field 'private_test_cases': tests of 0 kinds" in refused("livecodebench-v5", data, limit=3)


@pytest.mark.parametrize("name, field, value, reason", [
    ("bigcodebench-hard", "test", "import unittest", "there is no test in it"),
    ("bigcodebench-hard", "test", "class (", "invalid syntax"),
    ("humaneval", "test", "def check(", "'(' was never closed"),
    ("humaneval", "prompt", "def f(", "'(' was never closed"),
    ("mbpp", "test_list", [], "there are no tests"), ("mbpp", "test_list", ["assert ("], "'(' was never closed"),
    ("mbpp", "code", "x = 1", "it defines nothing that test_list calls"), ("mbpp", "code", "def", "invalid syntax")])
def test_source_that_is_none(name, field, value, reason, data):
    edit(data, name, 2, **{field: value})
    assert f"00001.jsonl, row 2: field '{field}': {reason}" in refused(name, data, limit=3)


@pytest.mark.parametrize("name, field, value, reason", [
    ("gsm8k", "answer", "7 * 6 = 42", "it does not end with #### and a number"),
    ("gsm8k", "answer", "#### forty", "it does not end with #### and a number"),
    ("aime24", "answer", "1000", "'1000' is no whole number up to 999"),
    ("aime25", "answer", "2.5", "'2.5' is no whole number up to 999"),
    ("cruxeval-o", "output", "f(3)", "'f(3)' is not a Python literal"),
    ("cruxeval-o", "output", "[1,", "'[1,' is not a Python literal")])
def test_an_answer_that_is_none(name, field, value, reason, data):
    edit(data, name, 2, **{field: value})
    assert re.search(rf"l, row 2: field '{field}': {re.escape(reason)}", refused(name, data, limit=3))


@pytest.mark.parametrize("answer, number", [("#### 18", "18"), ("a\n#### 1,125", "1125"), ("a #### b\n#### -3", "-3"), ("####0.5 ", "0.5")])
def test_the_number_of_a_gsm8k_row(answer, number):
    made = BENCHMARKS["gsm8k"].problem({"question": "?", "answer": "8 / 2 = <<8/2=4>>4\n" + answer}, 0)
    assert made["answer"] == number and made["reference"].startswith("8 / 2 = 4\n") and made["reference"].endswith(f"\\boxed{{{number}}}")


@pytest.mark.parametrize("name", ["aime24", "aime25"])
@pytest.mark.parametrize("written, gold", [("073", "73"), ("73", "73"), ("000", "0"), ("999", "999"), (" 4\n", "4")])
def test_leading_zeros_of_aime(name, written, gold):
    assert BENCHMARKS[name].problem({"id": 1, "problem": "?", "answer": written}, 0)["answer"] == gold


# -- a file right in the folder -------------------------------------------------------------------------------------

PLAIN = {"math500": "MATH-500.jsonl", "gsm8k": "gsm8k-test.jsonl", "humaneval": "HumanEval.jsonl", "cruxeval-o": "cruxeval.jsonl",
         "aime24": "aime_2024.jsonl", "aime25": "AIME25.jsonl", "mbpp": "mbpp_test.jsonl", "gpqa-diamond": "gpqa_diamond.jsonl",
         "bigcodebench-hard": "BigCodeBench-Hard.jsonl"}


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_all_lone_files_may_lie_in_one_folder(pack, tmp_path):
    for name, file in PLAIN.items():
        text = "".join(json.dumps(row) + "\n" for _, row in read_rows(DATA/FILES[name]))
        (tmp_path/(file + ".gz" * (pack is not bytes))).write_bytes(pack(text.encode()))
    for file in ("gsm8k-train.jsonl", "my-gsm8k.jsonl", "math.jsonl", "gsm8k.txt", "test.jsonl"): (tmp_path/file).write_text("{}")
    for name in PLAIN: assert load_benchmark(name, tmp_path, partial=True) == load_benchmark(name, DATA, partial=True)


def test_two_files_that_could_be_one_benchmark(data):
    for name in ("gsm8k.jsonl", "GSM8K-test.jsonl.gz"): (data/name).write_text("{}")
    assert len(load_benchmark("gsm8k", data, limit=3)) == 3, "the layout of the hub comes first"
    (data/FILES["gsm8k"]).unlink()
    assert "GSM8K-test.jsonl.gz and gsm8k.jsonl could both be openai/gsm8k; leave one there" in refused("gsm8k", data)


def test_what_is_several_files_has_no_plain_name(data):
    shutil.rmtree(data/"livecodebench")
    (data/"livecodebench-v5.jsonl").write_text("{}")
    assert "livecodebench/code_generation_lite/test.jsonl: there is no such file; put" in refused("livecodebench-v5", data)


# -- parts ----------------------------------------------------------------------------------------------------------

@given(st.lists(st.integers(1, 5), min_size=1, max_size=40), st.integers(-1, 41), st.integers(0, 9), st.randoms())
def test_a_stratified_part_keeps_the_shares_and_is_the_same_in_any_order(levels, size, seed, chance):
    problems = [Problem(f"p{i}", "ours", "?", "1", level) for i, level in enumerate(levels)]
    if not 1 <= size <= len(problems):
        with pytest.raises(ValueError, match=f"size is {size}, but there are {len(problems)} problems"): stratified(problems, size, seed)
        return
    part = stratified(problems, size, seed)
    assert len(part) == size and part == [p for p in problems if p in part]
    for level in set(levels):
        assert abs([p.difficulty for p in part].count(level) - size * levels.count(level) / len(levels)) < 1
    shuffled = problems[:]
    chance.shuffle(shuffled)
    assert {p.id for p in stratified(shuffled, size, seed)} == {p.id for p in part}


# -- real data, where it is ---------------------------------------------------------------------------------------

def real(name, benchmark):
    "The real problems, from the folder as it is: their files have plain names."
    if not (EVAL/name).exists(): pytest.skip(f"there is no {name} in shared/eval")
    return load_benchmark(benchmark, EVAL)


def test_the_real_gsm8k():
    problems = real("gsm8k-test.jsonl.gz", "gsm8k")
    assert len(problems) == 1319 and min(p.difficulty for p in problems) == 2 and "<<" not in "".join(p.reference for p in problems)
    assert all(float(p.answer) == int(p.answer) for p in problems)


def test_the_real_cruxeval_whose_references_are_right_against_themselves_alone():
    problems = real("cruxeval.jsonl.gz", "cruxeval-o")
    assert len(problems) == 800
    assert [p.id for p in problems if grade_value(p.reference, p.answer).verdict != "correct"] == []
    for write in (str, "`{}`".format, "```python\n{}\n```".format):
        assert [p.id for p in problems if not grade_value(write(p.answer), p.answer, cut=True, after_hint=True).correct] == []
    begun = [p.reference.removeprefix("```python\nassert f") + "\nassert f(0) == 'no more'" for p in problems]
    assert [p.id for p, text in zip(problems, begun) if not grade_value(text, p.answer, cut=True, after_hint=True).correct] == []
    others = [(p, q) for p, q in zip(problems, problems[1:]) if p.answer != q.answer]
    assert not any(grade_value(q.reference, p.answer).correct for p, q in others)


@pytest.mark.parametrize("name, file", [("gsm8k", "gsm8k-test.jsonl.gz"), ("math500", "math500.jsonl.gz"),
                                        ("cruxeval-o", "cruxeval.jsonl.gz"), ("humaneval", "HumanEval.jsonl.gz")])
def test_as_many_real_problems_can_be_drawn_as_are_asked_of_a_real_model(name, file):
    whole, question = real(file, name), QUESTIONS[name]
    assert len(stratified(whole, question.problems)) == len(question_problems(question, EVAL)) == question.problems


def test_a_hundred_of_the_real_math500_by_level():
    part = stratified(real("math500.jsonl.gz", "math500"), 100)
    assert [[p.difficulty for p in part].count(level) for level in range(1, 6)] == [9, 18, 21, 25, 27]
    assert fingerprint([p.id for p in part]) == "9d6e0d03efc3", "the same hundred on every machine, today and next year"


def test_the_real_math500():
    problems = real("math500.jsonl.gz", "math500")
    assert len(problems) == 500 and {p.difficulty for p in problems} == {1, 2, 3, 4, 5}
    assert all("\\boxed" in p.reference for p in problems)


def test_the_real_humaneval_and_its_reference_solutions():
    problems = real("HumanEval.jsonl.gz", "humaneval")
    assert len(problems) == 164
    assert [p.id for p in problems if not passes(p)] == []
    assert not any(passes(p, f"def {json.loads(p.answer)['entry']}(*args): return 'nonsense'") for p in problems)


# -- the tutorial -------------------------------------------------------------------------------------------------

def test_the_tutorial_runs_as_it_stands(tmp_path):
    notebook = json.loads((ROOT/"nbs"/"tutorials"/"add_a_benchmark.ipynb").read_text(encoding="utf-8"))
    code = "\n".join("".join(c["source"]) for c in notebook["cells"] if c["cell_type"] == "code")
    env = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

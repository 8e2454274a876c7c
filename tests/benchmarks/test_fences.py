"A program is found in whatever a model wraps it in, letter for letter; what is no program is not made one."
import gzip, json, time

import pytest
from hypothesis import given, settings, strategies as st

from z1.core import root
from z1.benchmarks.fences import CHOICE_RULES, blocks, extract_code, syntax_fault, find_program, is_program, is_unfinished, longest_run

F, PREFILL = "`" * 3, "Below is a script:\n```python\n"
RUN, OPEN, BARE = CHOICE_RULES["longest"], "in a block that was open before the hint", "in a block without a language"
CODE = "def f(x):\n    return x + 1"
QUOTING = 'def f(x):\n    """\n    Use:\n    ```python\n    f(1)\n    ```\n    """\n    return x + 1'


def quoted(text, mark): return "\n".join(mark + line for line in text.split("\n"))


def fenced(code, tag="python", fence=F): return f"{fence}{tag}\n{code}\n{fence}"


# -- blocks -----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("text, found", [
    ("", []), ("print(1)", []), (fenced("x"), ["x"]), (fenced("x", ""), ["x"]), ("a\n~~~py\nx\n~~~", ["x"]),
    (f"{fenced('x')}\n{fenced('y', '')}", ["x", "y"]), (fenced(""), []), ("```python\nx", ["x"]), ("```python\nx\n``", ["x\n``"]),
    ("```python\r\nx\r\n```\r\n", ["x"]), ("````\n```\nx\n```\n````", ["```\nx\n```"]), ("~~~\n```\n~~~", ["```"]),
    ("```\nx\n`````", ["x"]), ("`````\nx\n```", ["x\n```"]), ("- so\n  ```py\n  x\n    y\n  ```", ["x\n  y"]),
    ("      ```py\n      x\n      ```", ["x"]), ("  ```\nx\n```", ["x"]), ("> - ```\n>   x\n>   ```", ["x"]), ("> > ```\n> > x\n> > ```", ["x"]),
    ("use `x` and ```y``` here", []), ("use ``` for a block", []), ("```python title=a.py\nx\n```", ["x"])])
def test_fenced_blocks(text, found): assert [b.code for b in blocks(text)] == found


@pytest.mark.parametrize("tag, kind", [
    ("python", "python"), ("Python", "python"), ("py", "python"), (" python3 ", "python"), ("{.python}", "python"), ("main.py", "python"),
    ("python:main.py", "python"), ("python {linenos=table}", "python"), ("ipython", "python"), ("", ""), ("  ", ""), ("bash", "other"),
    ("text", "other"), ("json", "other"), ("output", "other"), ("pycon", "other"), ("pytb", "other"), ("cpp", "other")])
def test_the_language_of_a_block(tag, kind): assert [b.kind for b in blocks(fenced("x", tag))] == [kind]


@pytest.mark.parametrize("code, whole, unfinished", [
    ("", True, False), ("x = 1", True, False), ("'''", False, True), ("f(", False, True), ("def f():", False, True), ("x = 'a", False, False),
    ("a b", False, False), ("'\ud800'", False, False), ("a\0", False, False), ("-" * 200_000 + "1", False, False), ("(" * 200_000, False, False)])
def test_whether_it_is_python(code, whole, unfinished): assert (syntax_fault(code) is None, is_unfinished(code)) == (whole, unfinished)


# -- one program, many wrappings --------------------------------------------------------------------------------

WRAPPED = {
    "a block": fenced, "no language": lambda c: fenced(c, ""), "tildes": lambda c: fenced(c, "py", "~~~"), "longer": lambda c: fenced(c, "py", F + "`"),
    "words before": lambda c: f"Here it is: {fenced(c)}", "a label": lambda c: f"**Solution:**{fenced(c)}", "a label, bare": lambda c: f"Solution: {fenced(c, '')}",
    "a tag around": lambda c: f"<answer>{fenced(c)}</answer>", "words after": lambda c: f"{fenced(c)} This works.", "closed on its last line": lambda c: f"{F}python\n{c}{F}\nThat's it.", "a word after": lambda c: f"{fenced(c)}Done.",
    "code spans after": lambda c: f"{fenced(c)} The `f` does it.", "a list item": lambda c: "1. " + quoted(fenced(c), "   ")[3:],
    "a list item, not indented": lambda c: f"- {fenced(c)}", "a quotation": lambda c: quoted(fenced(c), "> "), "a tight quotation": lambda c: quoted(fenced(c), ">"),
    "indented": lambda c: quoted(fenced(c), "  "), "deeply": lambda c: quoted(fenced(c), " " * 8), "tabs": lambda c: quoted(fenced(c), "\t"),
    "only fences indented": lambda c: f"   {F}python\n{c}\n   {F}", "never closed": lambda c: f"Here:\n{F}python\n{c}", "other system": lambda c: fenced(c).replace("\n", "\r\n"),
    "a shell first": lambda c: f"{fenced('pip install x = 1', 'bash')}\n{fenced(c)}", "an output before": lambda c: f"{fenced('x = 2', 'output')}\n{fenced(c, '')}",
    "data before": lambda c: f"{fenced('x = 2', '')}\nSo:\n{fenced(c)}", "used after": lambda c: f"{fenced(c)}\nUse it:\n{fenced('f(2)')}",
    "half a block before": lambda c: f"{F}python\ndef f(\n\nAgain:\n{fenced(c)}", "a word of markdown": lambda c: f"Use ```x``` or ``` as you like.\n{fenced(c)}"}
AFTER = {  # the protocol may have opened a block, or the thought before a hint
    "goes on": lambda c: f"{c}\n{F}\nThat's it.", "never closes": lambda c: c, "words after": lambda c: f"{c}\n{F} That's it.", "closes on the line": lambda c: f"{c}{F}\nThat's it.",
    "once more": fenced, "once more, bare": lambda c: fenced(c, ""), "speaks first": lambda c: f"Here it is:\n{fenced(c)}", "speaks first, bare": lambda c: f"Here it is:\n{fenced(c, '')}",
    "closes, opens": lambda c: f"{F}\n\n{fenced(c)}", "closes, speaks, opens": lambda c: f"{F}\n\nHere it is:\n\n{fenced(c)}", "uses it": lambda c: f"{c}\n{F}\nUse it:\n{fenced('f(3)')}"}

parts = st.sampled_from(["x = 1", "print(x)", CODE, QUOTING, "s = '''\n```\nno code, it's text\n~~~\n'''", "if x:\n    y = [\n        1,\n    ]\nelse:\n    pass",
                         "# what's this?", 't = "> 1. - *"', "class A:\n\n    def f(self): return ('```',\n\t1)", "z = {1: 2}\n\n", "def g():\n    '''~~~python\n    g()'''"])
programs = st.lists(parts, min_size=1, max_size=4).map("\n".join).map(str.rstrip).filter(is_program)


@pytest.mark.parametrize("wrap", WRAPPED.values(), ids=WRAPPED)
@settings(max_examples=40)
@given(programs)
def test_a_program_is_found_letter_for_letter(wrap, program):
    text = wrap(program)
    assert extract_code(text) == program
    if F + "\nUse" not in text: assert extract_code(text, "last") == program


@pytest.mark.parametrize("wrap", AFTER.values(), ids=AFTER)
@settings(max_examples=40)
@given(programs)
def test_a_block_may_be_open_already(wrap, program):
    for prefill, after_hint in ((PREFILL, False), (PREFILL, True), ("", True)):
        found, rule = find_program(wrap(program), "first", prefill, after_hint)
        assert found == program and (not rule or not prefill)


@settings(max_examples=40)
@given(programs)
def test_a_program_without_a_fence_is_found(program):
    assert find_program(f"Sure, here it is.\n\n{program}\n\nThat's all.") == (program, RUN)


def test_real_programs_in_every_wrapping():
    path = root().parent/"shared"/"eval"/"HumanEval.jsonl.gz"
    if not path.exists(): pytest.skip("HumanEval is not among the evaluation data beside the project")
    with gzip.open(path, "rt", encoding="utf-8") as f: rows = [json.loads(line) for line in f]
    for row in rows:
        program = (row["prompt"] + row["canonical_solution"]).strip()
        for name, wrap in WRAPPED.items(): assert extract_code(wrap(program)) == program, (row["task_id"], name)
        for name, wrap in AFTER.items(): assert find_program(wrap(program), after_hint=True)[0] == program, (row["task_id"], name)


# -- which one, and by which rule -------------------------------------------------------------------------------

TWO = f"{fenced('x = 1')}\nBetter:\n{fenced('x = 2')}\nIt prints\n{fenced('x = 3', '')}\nor\n{fenced('x = 4', 'text')}"


@pytest.mark.parametrize("text, which, found, rule", [
    (TWO, "first", "x = 1", ""), (TWO, "last", "x = 2", ""), (TWO, "lcb-first", "x = 1", ""), (TWO, "lcb-last", "x = 4", ""),
    (f"Sure.\n{fenced(CODE, 'text')}\nOr\nx = 1", "longest", CODE, ""), (fenced(CODE, ""), "first", CODE, BARE),
    (f"{fenced('3 4', '')}\n{fenced(CODE, '')}", "first", CODE, BARE), (f"{fenced('3', 'text')}\n{CODE}", "first", CODE, RUN),
    ("```python def f(x):\n    return x + 1\n```", "first", CODE, ""), ("```python # my own\nx = 1\n```", "first", "x = 1", ""),
    ("```python print(1)```", "first", "print(1)", RUN), (f"{F}python\n{CODE}\n\nThat's all.", "first", CODE, RUN),
    (fenced("def f(x)\n    return 1"), "first", "def f(x)\n    return 1", ""), (f"{F}python\ndef f(x)\n    a b", "first", "def f(x)\n    a b", "in a block that is no Python"),
    (fenced("a b", ""), "first", "a b", "in a block that is no Python")])
def test_which_program_counts_and_why(text, which, found, rule): assert find_program(text, which) == (found, rule)


@pytest.mark.parametrize("text, after_hint, rule", [(CODE, True, OPEN), (f"{CODE}\n{F}", True, OPEN), (fenced(CODE), True, ""), (fenced(CODE, ""), True, BARE)])
def test_a_block_open_before_the_hint(text, after_hint, rule): assert find_program(text, after_hint=after_hint) == (CODE, rule)


def test_after_a_hint_the_rest_of_an_old_block_is_not_the_program():
    assert find_program(f"    return y\n{F}\n\nAll of it:\n{fenced(CODE)}", after_hint=True) == (CODE, "")
    assert find_program(f"    return y\n{F}", prefill=PREFILL, after_hint=True)[0] is None


@pytest.mark.parametrize("text", [
    "", "I give up.", "No", "8", "Note: this\n\nis hard", fenced("pip install numpy", "bash"), fenced('{"a": 1}', "json"), fenced("x = 3", "output"),
    fenced("x = 3", "text"), fenced(""), fenced("\n \n"), F, f"{F}python", "Time: O(n)\nSpace: O(1)"])
@pytest.mark.parametrize("after_hint", [False, True])
def test_what_is_no_program(text, after_hint):
    found, rule = find_program(text, after_hint=after_hint)
    assert found is None and "no program" in rule


def test_an_unknown_rule_is_refused():
    with pytest.raises(ValueError, match="which is 'second'; use one of first, last, longest"): find_program("x = 1", "second")


@given(st.text(max_size=60), st.sampled_from([*CHOICE_RULES]), st.booleans())
def test_any_text_is_read(text, which, after_hint):
    found, rule = find_program(text, which, after_hint=after_hint)
    assert found is None or found.strip()


# -- ten thousand lines -----------------------------------------------------------------------------------------

@pytest.mark.parametrize("lines", [
    ["The quick brown fox jumps over the lazy dog."], ["x + \\"], ["x = ["], ["x = 1"], [F], ["```python", "x = '''"], ["```python", "x = (1", F],
    ["x = 1 ``` y"], ["def f():", "    x = 1", "hello world"], ['"""', "it's"], ['> """'], [" " * i + "if 1:" for i in range(99)]],
    ids=lambda lines: lines[0][:12])
def test_a_long_answer_is_read_in_seconds(lines):
    text, start = "\n".join(lines * (10_000 // len(lines))), time.perf_counter()
    find_program(text, after_hint=True)
    longest_run(text.split("\n"))
    assert time.perf_counter() - start < 60  # pairs of lines, or every fence with every other, would take hours

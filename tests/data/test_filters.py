"Every filter finds what it is for, and nothing else."
import re

import pytest
from hypothesis import given, settings, strategies as st

from z1.benchmarks.suites import load_benchmark
from z1.core import Ledger, Problem, root
from z1.nano.tokenizer import train_tokenizer
from z1.sandbox.sandbox import Limits, Sandbox
from z1.data.filters import (Codes, Contaminated, Duplicate, Incomplete, RejectedByJudge, NearDuplicate, Repetition, TooLong,
                        benchmark_problems, codes_of, count_batch, find_loops, ngram_hashes, join_codes, normalised_text, repeated_runs, runs_code,
                        solves, strip_delimiters, without_numbers, words_of)
from z1.measure.answers import Grader, grade_exact
from z1.nano.programs import STYLES, make_problems

PROBLEMS = list(make_problems("train", 60))
TRACES = [style(p).response for p in PROBLEMS for style in STYLES.values()]
ANY = st.text(st.characters(codec="utf-8"), max_size=200)


def row(text, question="Why?", id="0", **kw): return dict(id=id, question=question, response=text, status="stop", **kw)


# -- delimiters -----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("text, wanted", [
    ("<think>a</think>b", "a\n\nb"), ("<think>a", None), ("a\n</think>\n\nb", "a\n\nb"), ("a</think>", "a"),
    ("the tag </think> ends it", "the tag </think> ends it"), ("see <think> and </think>", "see <think> and </think>"),
    ("<think>a</think>b <think>c</think>", "a\n\nb <think>c</think>"), ("<think></think>", ""),
    ("<|begin_of_thought|>a<|end_of_thought|>\n<|begin_of_solution|>b<|end_of_solution|>", "a\n\nb"),
    ("<|begin_of_thought|>a<|end_of_thought|>\n<|begin_of_solution|>b", None)])
def test_delimiters(text, wanted): assert strip_delimiters(text) == wanted


def test_delimiters_of_a_nano_teacher():
    for problem in PROBLEMS:
        text = STYLES["r1"](problem).response
        assert strip_delimiters(text).split() == re.sub("</?think>", "", text).split()


def test_incomplete_names_what_is_missing():
    bad = [row("a") | {"status": "length"}, row("<think>a"), row(" \n"), row("<think></think>"), row("a", question=" ")]
    assert all(Incomplete()(bad)) and Incomplete()([row("a")]) == [""]
    assert Incomplete(finished=("length",))([row("a") | {"status": "length"}]) == [""]


# -- lengths ---------------------------------------------------------------------------------------------------------

def test_counts_equal_the_plain_loop_and_nothing_is_cut():
    texts = TRACES + ["", "naïve 日本 \n\n", "<|im_end|> </think>"]
    tokenizer = train_tokenizer(texts)
    plain = [len(tokenizer(text).input_ids) for text in texts]
    assert count_batch(tokenizer, texts) == plain
    rows = [row(text) for text in texts]
    limit = sorted(plain)[len(plain) // 2]
    found = TooLong(tokenizer, limit)(rows)
    assert [bool(f) for f in found] == [n > limit for n in plain] and [r["response"] for r in rows] == texts


def test_a_slow_tokenizer_and_a_missing_count_are_errors():
    with pytest.raises(ValueError, match="not a fast tokenizer"): TooLong(object())([row("a")])
    with pytest.raises(ValueError, match="row 'x': field 'token_num_qwen'"): TooLong()([row("a", id="x")])
    assert TooLong()([row("a", token_num_qwen=8192), row("a", token_num_qwen=8193)]) == ["", "8193 tokens"]


# -- words -----------------------------------------------------------------------------------------------------------

@given(ANY)
def test_codes_follow_words_and_tell_numbers(text):
    words, codes = words_of(text), codes_of(text).tolist()
    assert len(words) == len(codes)
    assert all((c & 1 == 1) == w[0].isdecimal() for w, c in zip(words, codes))
    assert len(set(codes)) == len(set(words)) and codes == [Codes()[w] for w in words]


@given(st.lists(st.integers(0, 3), max_size=30), st.integers(1, 5))
def test_grams_are_equal_where_words_are(values, n):
    text = " ".join("abcd"[v] for v in values)
    words, hashes = words_of(text), ngram_hashes(codes_of(text), n).tolist()
    slices = [tuple(words[i:i + n]) for i in range(len(words) - n + 1)]
    assert len(hashes) == len(slices)
    assert all((a == b) == (s == t) for a, s in zip(hashes, slices) for b, t in zip(hashes, slices))


# -- repetition ------------------------------------------------------------------------------------------------------

def plain_runs(codes, period, least):
    "The definition, word by word."
    out, start = [], None
    for i in range(len(codes) - period + 1):
        same = i + period < len(codes) and codes[i] == codes[i + period]
        if same and start is None: start = i
        if not same and start is not None:
            if i - start >= least: out.append((start, i - start))
            start = None
    return out


PIECE = st.lists(st.integers(0, 2), min_size=1, max_size=4)


@given(st.lists(st.tuples(PIECE, st.integers(1, 12)), max_size=5), st.integers(1, 6), st.integers(3, 14))
def test_runs_follow_the_definition(parts, period, least):
    codes = codes_of(" ".join(" ".join("abc"[v] for v in piece) + " " for piece, n in parts for _ in range(n)))
    if len(codes) <= period: return
    assert repeated_runs(codes, period, least) == plain_runs(codes.tolist(), period, least)


@pytest.mark.parametrize("text", [
    "wait " * 61, "Let me check that again.\n" * 13, "3" * 24 * 61, "=" * 24 * 61,
    ("A paragraph of some words.\n" + "One more, and another line.\n") * 7,
    "\n".join(f"{i}. Try {i * i}, and then {i + 1}.5 again." for i in range(60)), ", ".join(map(str, range(400))),
    "\n".join("try " + "+".join(map(str, range(i % 9))) + "0 which is too small" for i in range(70))])
def test_loops_are_found_wherever_they_stand(text):
    before, after = "First some words that say nothing twice, none at all. ", " And then it ends."
    for whole in (text, before + text, text + after, before + text + after):
        assert Repetition()([row(whole)])[0], whole[:80]


def test_honest_work_is_no_loop():
    texts = ["wait " * 50, "Let me check that again.\n" * 3, "\n".join(f"i = {i}, total = {i * i}" for i in range(30)),
             "A list: " + ", ".join(map(str, range(60))), *TRACES]
    assert not any(Repetition()([row(text) for text in texts]))


def test_rows_do_not_loop_into_each_other():
    same = "One and the same response in every row. " * 3
    assert not any(Repetition()([row(same)] * 50))
    mixed = [row(same), row("wait " * 80), row(""), row(same)]
    assert [bool(f) for f in Repetition()(mixed)] == [False, True, False, False]
    assert [bool(f) for r in mixed for f in Repetition()([r])] == [False, True, False, False]
    assert Repetition()([]) == [] and Repetition()([row("")]) == [""]


def test_numbers_in_a_row_are_one_unless_there_are_many():
    squeezed = lambda text: len(without_numbers(join_codes([codes_of(text)])[0])[0]) - 1
    assert squeezed("a 1 2 3 b 4") == 4 and squeezed("1 " * 63) == 1 and squeezed("1 " * 64) == 64
    codes, ends = join_codes([codes_of("x 1 y 2 " * 9)])
    alike, where = without_numbers(codes)
    assert find_loops(codes, ends, 10, 4, 5) == find_loops(alike, where.searchsorted(ends), 10, 4, 5) == {0: (0, 4, 9)}
    counting, ends = join_codes([codes_of("".join(f"x {i} y {i + 7} " for i in range(9)))])
    alike, where = without_numbers(counting)
    assert find_loops(counting, ends, 10, 4, 5) == {}
    assert find_loops(alike, where.searchsorted(ends), 10, 4, 5) == {0: (0, 4, 9)}


@pytest.mark.parametrize("bad", [dict(words=2), dict(times=1), dict(period=0), dict(varied_words=0)])
def test_a_loop_without_a_meaning(bad):
    with pytest.raises(ValueError, match="a loop has 3 repeated words or more"): Repetition(**bad)


# -- contamination ---------------------------------------------------------------------------------------------------

TEN = "alpha bravo charlie delta echo foxtrot golf hotel india juliett"


def problem(i, prompt): return Problem(f"p{i}", "ours", prompt, "4", 0)


@given(st.integers(0, 8), st.integers(0, 8), st.sampled_from(["question", "response"]))
def test_ten_words_in_a_row_are_found_and_nine_are_not(before, after, field):
    other = "Something else entirely that has more words than ten in it."
    filter = Contaminated([problem(0, f"Once {TEN} twice."), problem(1, other)])
    text = " ".join(["zulu"] * before + TEN.upper().split() + ["yankee"] * after)
    assert filter([row("a") | {field: text}]) == [f"ours p0: {TEN}"]
    assert filter([row("a") | {field: text.replace("ECHO", "x")}]) == [""]


def test_wording_that_many_problems_share_does_not_count():
    many = [problem(i, f"{TEN}. Number{i} kilo{i} lima{i} mike{i}") for i in range(11)]
    assert Contaminated(many)([row(TEN)]) == [""] and Contaminated(many[:10])([row(TEN)]) != [""]
    assert Contaminated(many, most=11)([row(TEN)]) != [""]


def test_numbers_give_nothing_away_but_a_whole_question_does():
    digits = "1 2 3 4 5 6 7 8 9 10 11 12"
    filter = Contaminated([problem(0, f"Sort: {digits}"), problem(1, "Two + two?")])
    asked = [row(digits), *(row("a", question=q) for q in (f"sort:\n{digits}", "TWO  + two?", "Two - two?"))]
    assert filter(asked) == ["", "ours p0: the whole question", "ours p1: the whole question", ""]


def test_nothing_to_compare_with():
    with pytest.raises(ValueError, match="no problems to compare with"): Contaminated([])
    with pytest.raises(ValueError, match="n is 1"): Contaminated([problem(0, TEN)], n=1)
    short = Contaminated([problem(0, "Hi?")])
    assert short([row("a"), row("b", question="hi?")]) == ["", "ours p0: the whole question"]


def test_each_problem_of_the_benchmarks_is_found_in_its_own_words():
    data = root()/"data"/"examples"/"benchmarks"
    names = ["math500", "gpqa-diamond", "bigcodebench-hard", "humaneval", "mbpp"]
    problems = benchmark_problems(data, names, partial=True)
    problems += load_benchmark("livecodebench-v5", data, limit=2)
    filter = Contaminated(problems)
    for p in problems:
        assert filter([row("a", question=p.prompt)]) != [""]
        words = p.prompt.split()
        if len(words) > 60: assert filter([row("Well, " + " ".join(words[len(words) // 3:]))]) != [""], p.id


def test_training_problems_of_the_nano_world_are_clean():
    filter = Contaminated(benchmark_problems(benchmarks=["nano-test", "nano-words"]))
    assert not any(filter([row(STYLES["z1"](p).response, question=p.prompt) for p in PROBLEMS]))


def test_real_problems_and_each_other():
    folder = root().parent/"shared"/"eval"
    if not (folder/"math500.jsonl.gz").exists(): pytest.skip("no shared/eval folder with real benchmarks")
    from z1.benchmarks.files import read_rows
    real = [problem(i, r["problem"]) for i, (_, r) in enumerate(read_rows(folder/"math500.jsonl.gz"))]
    filter = Contaminated(real)
    assert all(filter([row("a", question=p.prompt) for p in real]))
    code = [r for _, r in read_rows(folder/"HumanEval.jsonl.gz")]
    assert sum(map(bool, filter([row(r["canonical_solution"], question=r["prompt"]) for r in code]))) <= 1


# -- duplicates ------------------------------------------------------------------------------------------------------

@given(st.lists(st.sampled_from("abcdef"), max_size=30), st.integers(1, 7))
def test_the_first_of_equal_rows_stays(texts, size):
    rows = [row("r", question=text + " " * (i % 3), id=str(i)) for i, text in enumerate(texts)]
    filter = Duplicate()
    found = [f for i in range(0, len(rows), size) for f in filter(rows[i:i + size])]
    assert found == [f"the same as {texts.index(t)}" if t in texts[:i] else "" for i, t in enumerate(texts)]


def test_signs_are_no_blanks():
    assert normalised_text("a+b") != normalised_text("a-b") and normalised_text(" A\n b") == normalised_text("a B") == "a b"


def test_near_duplicates_in_one_batch_and_across_batches():
    text = " ".join(f"word{i * i}" for i in range(100))
    other = " ".join(f"term{i * i}" for i in range(100))
    texts = [text, text.replace("word2500", "x"), other, "too short", "too short", text + " and more",
             " ".join(text.split()[::-1])]
    rows = [row(text, id=id) for text, id in zip(texts, "abcdefg")]
    for size in (1, 3, 7):
        filter = NearDuplicate("response")
        found = [f for i in range(0, len(rows), size) for f in filter(rows[i:i + size])]
        assert found == ["", "nearly the same as a", "", "", "", "nearly the same as a", ""]
    with pytest.raises(ValueError, match="threshold is 0"): NearDuplicate(threshold=0)


# -- judges ----------------------------------------------------------------------------------------------------------

def test_judges_are_asked_once(tmp_path):
    asked = []
    def judge(row):
        asked.append(row["id"])
        return "bad" if row["id"] == "2" else ""
    rows = [row("r", id=str(i)) for i in range(4)]
    def judged(rows, run="r"):
        with Ledger(tmp_path/"l.jsonl", key="key", run=run) as ledger: return RejectedByJudge(judge, ledger)(rows)
    for _ in range(2):
        assert judged(rows + rows[:1]) == ["", "", "bad", "", ""] and len(asked) == 4
    assert judged([row("another response", id="2")]) == ["bad"] and len(asked) == 5
    with pytest.raises(ValueError, match="the configuration changed"): judged(rows, run="other")


def test_code_that_does_not_run():
    block = "```python\n{}\n```".format
    texts = [block("print(1)"), block("import no_such_module"), block("x = input()"),
             block("raise ValueError('EOFError')"), block("def f(:\n"), block("import sys; sys.exit(3)"),
             "```cpp\nint main() {}\n```", block("print(1)") + "\n" + block("1 / 0")]
    rows = [row(text, id=str(i)) for i, text in enumerate(texts)]
    with Sandbox(2) as sandbox: found = RejectedByJudge(runs_code(sandbox, Limits(seconds=5)))(rows)
    assert [bool(f) for f in found] == [False, False, False, True, True, True, False, True]
    assert found[7].startswith("block 2: an exception: ZeroDivisionError")


def test_answers_that_are_wrong():
    rows = [row(STYLES["z1"](p).response, id=p.id) for p in PROBLEMS]
    rows[3]["response"] = "The final answer is 99."
    rows[4]["response"] = "I don't know."
    filter = RejectedByJudge(solves(Grader(grade_exact), PROBLEMS))
    assert [i for i, found in enumerate(filter(rows)) if found] == [3, 4]
    with pytest.raises(ValueError, match="row 'x' answers none"): filter([row("a", id="x")])

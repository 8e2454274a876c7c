"Rows as other programs write them, and values that are odd at every border where rows come in."
import csv
import gzip
import io
import json
import math
import threading

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings, strategies as st

from z1.benchmarks.files import READERS, file_ending, read_rows
from z1.benchmarks.suites import Benchmark, ComputedRows, load_benchmark
from z1.core import coerce, is_missing, read_field, shown
from z1.data.curation import curate, read_set, to_row
from z1.data.problems import Columns, is_file, load_problems, to_problem

ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"]
text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
tables = st.lists(st.fixed_dictionaries({"instruction": text.map(lambda t: f"?{t}"), "output": text}), min_size=1, max_size=5)


def written(folder, name, text, encoding="utf-8", pack=bytes):
    (folder/name).write_bytes(pack(text.encode(encoding)))
    return folder/name


def as_csv(rows, delimiter=",", end="\r\n"):
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, list(rows[0]), delimiter=delimiter, lineterminator=end, quoting=csv.QUOTE_ALL)
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def read(path): return [row for _, row in read_rows(path)]


def said(path):
    with pytest.raises(ValueError) as e: read(path)
    return str(e.value)


@pytest.fixture(scope="module")
def folder(tmp_path_factory): return tmp_path_factory.mktemp("rows")


# -- files ----------------------------------------------------------------------------------------------------------

@given(tables, st.sampled_from(ENCODINGS), st.sampled_from(",;\t"), st.sampled_from(["\r\n", "\n", "\r"]),
       st.sampled_from([bytes, gzip.compress]))
def test_a_table_is_the_same_however_it_was_saved(folder, rows, encoding, delimiter, end, pack):
    assert read(written(folder, "rows.csv", as_csv(rows, delimiter, end), encoding, pack)) == rows


FORMS = {"lines": lambda rows: "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows),
         "old lines": lambda rows: "\r".join(map(json.dumps, rows)),
         "blank lines": lambda rows: "\n\r\n \n".join(json.dumps(r) for r in rows) + "\n\n",
         "array": json.dumps, "pretty": lambda rows: json.dumps(rows, indent=2, ensure_ascii=False),
         "under data": lambda rows: json.dumps({"version": 1, "data": rows}, indent=1)}


@given(tables, st.sampled_from(ENCODINGS), st.sampled_from(sorted(FORMS)), st.sampled_from([".json", ".jsonl", ".JSON", ".jsonl.gz"]))
def test_json_is_the_same_however_it_was_saved(folder, rows, encoding, form, suffix):
    pack = gzip.compress if suffix.endswith(".gz") else bytes
    assert read(written(folder, "rows" + suffix, FORMS[form](rows), encoding, pack)) == rows


def test_values_over_several_lines_may_follow_one_another(folder):
    rows = [{"a": 1}, {"a": [2]}, {"a": {"b": "]"}}]
    pretty = "\n".join(json.dumps(r, indent=2) for r in rows)
    for name in ("jq.json", "jq.jsonl"): assert read(written(folder, name, pretty)) == rows
    assert read(written(folder, "one.json", json.dumps({"a": 1}))) == [{"a": 1}]
    assert read(written(folder, "none.json", "[]")) == read(written(folder, "empty.json", "")) == []


def test_two_files_with_marks_were_put_one_after_the_other(folder):
    line = b'\xef\xbb\xbf{"a": 1}\n'
    (folder/"both.jsonl").write_bytes(line * 2)
    assert read(folder/"both.jsonl") == [{"a": 1}] * 2


@pytest.mark.parametrize("head", ["sep=;\r\n", "#TYPE System.Management.Automation.PSCustomObject\r\n", "\r\n"])
def test_what_a_program_tells_itself_in_front_is_passed_over(folder, head):
    assert read(written(folder, "head.csv", head + "a;b\r\n1;2\r\n;\r\n\r\n", "utf-8-sig")) == [{"a": "1", "b": "2"}]


def test_an_ending_is_read_whatever_its_case_and_whether_packed_or_not(folder):
    assert [file_ending(n) for n in ("a/B.CSV.GZ", "x.jsonl", "y.tar.gz", "plain")] == [".csv", ".jsonl", ".tar", ""]
    assert is_file("A.TSV") and is_file("a.json.gz") and not is_file("owner/name")
    assert read(written(folder, "not_packed.jsonl.gz", '{"a": 1}\n')) == [{"a": 1}]
    assert read(written(folder, "packed.jsonl", '{"a": 1}\n', pack=gzip.compress)) == [{"a": 1}]


@pytest.mark.parametrize("size", [131_072, 131_073, 10_000_000])
def test_a_field_of_any_length_and_the_limit_of_others_untouched(folder, size):
    limit = csv.field_size_limit()
    path = written(folder, "long.csv", as_csv([{"a": "x" * size, "b": ""}, {"a": "y", "b": "z" * size}]))
    for n, (_, row) in enumerate(read_rows(path)):
        assert csv.field_size_limit() == limit and len(row["ab"[n]]) == size


def test_several_threads_read_long_fields_and_leave_the_limit_alone(folder):
    limit, found = csv.field_size_limit(), []
    path = written(folder, "threads.csv", as_csv([{"a": "x" * 200_000}] * 20))
    threads = [threading.Thread(target=lambda: found.append(len(read(path)))) for _ in range(8)]
    for t in threads: t.start()
    for t in threads: t.join()
    assert found == [20] * 8 and csv.field_size_limit() == limit


def test_another_encoding_is_called_that_and_not_torn(folder):
    for name, row in (("old.csv", "instruction,output\nWas heißt das?,\n"), ("old.jsonl", '{"instruction": "Was heißt das?"}\n')):
        message = said(written(folder, name, row, "cp1252"))
        assert f"{name}, row 1: cannot be read (UnicodeDecodeError" in message
        assert "save it as UTF-8" in message and "torn" not in message and "fetch" not in message


@pytest.mark.parametrize("name, data, message", [
    ("t.json", '[{"a": 1}, {"a"', "row 1: cannot be read (JSONDecodeError"),
    ("t.jsonl", '{"a": 1}\n{"a": \n{"a": 3}', "row 2: cannot be read (JSONDecodeError"),
    ("t.csv", 'a,b\n1,2\n3\n', "row 2: cannot be read (ValueError: more or fewer values"),
    ("t.tsv", 'a\tb\n"1\t2\n', "row 1: cannot be read (Error: unexpected end of data"),
    ("t.json", '{"data": [1]}', "row 1: cannot be read (ValueError: not an object"),
    ("t.jsonl", '{"a": ' + "9" * 5000 + "}", "row 1: cannot be read (ValueError: Exceeds the limit"),
    ("t.jsonl", '{"a": ' + "[" * 50_000, "row 1: cannot be read (RecursionError")])
def test_what_is_torn_is_named_with_its_row(folder, name, data, message): assert message in said(written(folder, name, data))


@given(tables, st.data())
def test_no_part_of_a_json_file_passes_for_all_of_it(folder, rows, data):
    whole = json.dumps(rows)
    path = written(folder, "cut.json", whole[:data.draw(st.integers(1, len(whole) - 1))])
    with pytest.raises(ValueError, match="cannot be read"): read(path)


# -- values ---------------------------------------------------------------------------------------------------------

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.integers(2**62, 2**70) | st.floats() | st.text(st.characters()) | st.binary(max_size=3)
    | st.integers(-9, 9).map(np.int32) | st.floats(width=32).map(np.float32) | st.just(pd.NA) | st.just(pd.NaT),
    lambda s: st.lists(s, max_size=3) | st.lists(st.integers(0, 9)).map(np.array), max_leaves=4)
KINDS = [str, int, bool, float, str | int, list[str], list[int], list[list[int]]]


def fits(value, kind):
    if kind == str | int: return fits(value, str) or fits(value, int)
    if kind in KINDS[:4]: return type(value) is kind and (kind is not int or abs(value) <= 2**63) and (kind is not str or value.encode() is not None)
    return type(value) is list and all(fits(v, kind.__args__[0]) for v in value)


@given(anything, st.sampled_from(KINDS))
@settings(max_examples=400)
def test_a_value_becomes_what_is_meant_or_is_refused(value, kind):
    try: found = coerce(value, kind)
    except ValueError as e: assert "must" in str(e)
    else:
        assert fits(found, kind)
        if isinstance(value, (str, int, float)): assert found == value or value != value


@given(anything)
def test_a_field_is_what_is_meant_or_missing_or_named(value):
    try: found = read_field({"level": value}, "level", int, "row 3", "mend it", None)
    except ValueError as e: assert str(e).startswith("row 3: field 'level' is ") and str(e).endswith(": mend it")
    else: assert found is None and is_missing(value) or type(found) is int


@pytest.mark.parametrize("value", [None, math.nan, np.float32("nan"), np.nan, pd.NA, pd.NaT])
def test_what_a_table_writes_for_none_is_none(value):
    assert is_missing(value) and read_field({"a": value}, "a", str, "", "", "there was none") == "there was none"
    with pytest.raises(ValueError, match="row 1: field 'a' is missing; the row has a: mend it"): read_field({"a": value}, "a", str, "row 1", "mend it")


@pytest.mark.parametrize("value", [3, 3.0, np.int8(3), np.float64(3), np.array(3)])
def test_three_is_three(value): assert type(found := coerce(value, int)) is int and found == 3


@pytest.mark.parametrize("value", [3.5, True, np.True_, "3", "", b"3", math.inf, -math.inf, 1e300, 2**63, -2**63 - 1, 10**5000, [3], {3}], ids=shown)
def test_what_is_no_whole_number_of_64_bits_is_refused_by_name(value):
    with pytest.raises(ValueError, match="^row 1: field 'level' is .*: mend it$"): read_field({"level": value}, "level", int, "row 1", "mend it")


# -- the borders ----------------------------------------------------------------------------------------------------

HALF = ["\ud83d", "x \ude00", "\udc80"]
ODD_TEXT = [*HALF, b"bytes", 7, 3.5, True, ["a"], {"a": 1}, math.nan, None, math.inf]
ODD_NUMBER = [3.5, True, "3", 2**70, -2**63 - 1, 1e400, b"3", [3]]
ROW = {"id": "a", "question": "?", "response": "4", "token_num_qwen": 1, "difficulty": 1, "run": "r", "status": "ended"}
ASKED = {"instruction": "?", "key": "k", "gold": "4", "solution": "4"}
TOY = Benchmark("toy", ComputedRows(lambda: []), 1, {"id": str, "prompt": str, "level": int, "tests": list[str]},
                lambda row, seed: {"id": row["id"], "prompt": row["prompt"], "answer": "4", "difficulty": row["level"]}, "exact")
TOY_ROW = {"id": "a", "prompt": "?", "level": 1, "tests": ["a"]}


def toy(row):
    from dataclasses import replace
    return load_benchmark(replace(TOY, source=ComputedRows(lambda: [row])))[0]


@pytest.mark.parametrize("field", ["instruction", "key", "gold", "solution"])
@pytest.mark.parametrize("bad", ODD_TEXT, ids=shown)
def test_a_problem_file_names_an_odd_text(field, bad):
    if field == "key" and bad == 7 and bad is not True: return                  # a number is an id
    with pytest.raises(ValueError, match=f"own.csv, row 9: field '{field}' is "):
        to_problem(ASKED | {field: bad}, "own.csv, row 9", Columns("instruction", "key", "gold", "solution"), "own")


def test_ids_that_pandas_made_floats_are_whole_again():
    assert [to_problem(ASKED | {"key": k}, "", Columns(id="key"), "").id for k in (7, 7.0, np.int64(7), "7")] == ["7"] * 4
    assert [to_row("", ROW | {"id": k})["id"] for k in (7, 7.0, np.int64(7), "7")] == ["7"] * 4


@pytest.mark.parametrize("field, bad", [*((f, b) for f in ("id", "prompt") for b in ODD_TEXT), *(("level", b) for b in [*ODD_NUMBER, math.nan]),
                                        *(("tests", [b]) for b in ODD_TEXT), ("tests", "a")], ids=shown)
def test_a_benchmark_names_an_odd_value(field, bad):
    with pytest.raises(ValueError, match=f"row 1: field '{field}' is "): toy(TOY_ROW | {field: bad})


def test_a_benchmark_takes_what_is_meant():
    problem = toy(TOY_ROW | {"level": 3.0, "tests": np.array(["a"]), "unnamed": "\ud83d"})
    assert problem.difficulty == 3 and type(problem.difficulty) is int


@pytest.mark.parametrize("field, bad", [*(("id", b) for b in ODD_TEXT if b != 7 or b is True),
                                        *((f, b) for f in ("question", "response") for b in ODD_TEXT if b not in HALF),
                                        *((f, b) for f in ("token_num_qwen", "difficulty") for b in ODD_NUMBER),
                                        *((f, b) for f in ("run", "status") for b in (b"bytes", 7, 3.5, ["a"]))], ids=shown)
def test_a_data_set_names_an_odd_value(field, bad, tmp_path):
    rows = [ROW | {"id": str(i), "question": f"Question {i}?"} for i in range(3)] + [ROW | {field: bad}]
    with pytest.raises(ValueError, match=f"^here, row 4: field '{field}' is "): curate(rows, tmp_path, "here", progress=False)


@pytest.mark.parametrize("field", ["question", "response", "status"])
@pytest.mark.parametrize("half", HALF)
def test_what_a_model_wrote_is_made_whole(field, half, tmp_path):
    rows = [ROW | {"id": str(i), "question": f"Question {i}?"} for i in range(3)] + [ROW | {field: f"x {half}"}]
    (tmp_path/"r.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    for some in (rows, read_set(tmp_path/"r.jsonl")):
        made = curate(some, tmp_path/"set", "here", progress=False)
        table = pd.concat([pd.read_parquet(tmp_path/"set"/f"{name}.parquet") for name in ("train", "dropped")])
        assert made["statistics"]["rows"] + sum(made["dropped"].values()) == 4 == len(table)
        assert table[table.id == "a"][field].iloc[0].endswith("\ufffd")


def test_a_table_of_pandas_with_gaps_is_read(tmp_path):
    table = pd.DataFrame([ROW | {"id": str(i), "question": f"Question {i}?"} for i in range(4)])
    table.loc[1, ["difficulty", "run", "status"]] = None
    table["difficulty"] = table["difficulty"].astype("float64")
    table.to_parquet(tmp_path/"t.parquet")
    table.to_json(tmp_path/"t.json", orient="records")
    table.to_csv(tmp_path/"t.csv", index=False, encoding="utf-8-sig", sep=";")
    for rows in (table.to_dict("records"), *(read_set(tmp_path/f"t.{file_ending}") for file_ending in ("parquet", "json", "csv"))):
        curate(rows, tmp_path/"set", "here", progress=False)
        kept = pd.read_parquet(tmp_path/"set"/"train.parquet")
        assert kept.difficulty.fillna(-1).tolist() == [1, -1, 1, 1] and kept.status.tolist() == ["ended", "", "ended", "ended"]


@pytest.mark.parametrize("number", ["3.5", "abc", "true", str(2**70), "1e400", '"3"'])
def test_a_number_in_a_csv_that_is_none_is_named(number, tmp_path):
    path = written(tmp_path, "t.csv", as_csv([ROW | {"difficulty": d} for d in ("3", "3.0", "", "NaN", number)]))
    rows = read_set(path)
    assert [next(rows)["difficulty"] for _ in range(4)] == [3, 3, None, None]
    with pytest.raises(ValueError, match="t.csv, row 5: field 'difficulty' is .*, but must "): next(rows)


def test_what_a_judge_quotes_may_hold_half_a_character(tmp_path):
    rows = [ROW | {"id": str(i), "question": f"Question {i}?", "tests": i} for i in range(3)]
    judge = lambda some: [f"it printed \ud83d" if row["tests"] == 1 else "" for row in some]
    assert curate(rows, tmp_path, "here", judges={"odd": judge}, progress=False)["dropped"]["odd"] == 1
    assert pd.read_parquet(tmp_path/"dropped.parquet").detail.tolist() == ["it printed \ufffd"]


def test_every_ending_has_its_reader(tmp_path):
    for suffix in READERS:
        if suffix == ".parquet": pd.DataFrame([ASKED]).to_parquet(tmp_path/"p.parquet")
        else: written(tmp_path, f"p{suffix}", as_csv([ASKED]) if suffix in (".csv", ".tsv") else json.dumps(ASKED))
        assert [p.prompt for p in load_problems(str(tmp_path/f"p{suffix}"))[0]] == ["?"]
        if suffix[1] in "jp": (tmp_path/f"s{suffix}").write_bytes((tmp_path/f"p{suffix}").read_bytes())

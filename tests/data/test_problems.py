"Problems from files and data sets: schema, stable ids, repeats."
import gzip, json

import datasets
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from z1.core import Problem
from z1.data.problems import Columns, load_problems, text_id, without_repeats
from z1.nano.programs import make_problems

EVOL = [{"instruction": f"Write program {i}.", "output": f"print({i})"} for i in range(5)]


def jsonl(path, rows, opened=open):
    with opened(path, "wt") as f: f.writelines(json.dumps(row) + "\n" for row in rows)
    return str(path)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch): monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path/"cache")


@pytest.fixture
def evol(tmp_path):
    "A folder with the schema of theblackcat102/evol-codealpaca-v1."
    (tmp_path/"evol"/"data").mkdir(parents=True)
    parquet.write_table(pa.Table.from_pylist(EVOL), tmp_path/"evol"/"data"/"train-00000-of-00001.parquet")
    return str(tmp_path/"evol")


def test_every_source_gives_the_same_problems(evol, tmp_path):
    found, left_out = load_problems(evol, Columns(reference="output"))
    assert [(p.id, p.prompt, p.reference) for p in found] == [(text_id(r["instruction"]), r["instruction"], r["output"]) for r in EVOL]
    assert left_out == {} and {p.benchmark for p in found} == {evol}
    parquet.write_table(pa.Table.from_pylist(EVOL), tmp_path/"own.parquet")
    sources = [jsonl(tmp_path/"own.jsonl", EVOL), jsonl(tmp_path/"own.jsonl.gz", EVOL, gzip.open), str(tmp_path/"own.parquet")]
    for source in sources: assert [(p.id, p.prompt) for p in load_problems(source)[0]] == [(p.id, p.prompt) for p in found]
    assert [p.id for p in load_problems(evol, limit=2)[0]] == [p.id for p in found[:2]]


def test_ids_do_not_change_between_versions():
    assert text_id("Sort a list.") == "82520261ebbd764e", "a ledger that was begun with these ids could not be resumed"


def test_programs(): assert load_problems("programs", limit=4, split="dev", seed=3) == (list(make_problems("dev", 4, 3)), {})


@pytest.mark.parametrize("row, columns, message", [
    ({"output": "x"}, Columns(), "row 2: field 'instruction' is missing; the row has output"),
    ({"instruction": None}, Columns(), "row 2: field 'instruction' is missing"),
    ({"instruction": 7}, Columns(), "row 2: field 'instruction' is 7, but must be str"),
    ({"instruction": ["a"]}, Columns(), "row 2: field 'instruction' is .'a'., but must be str"),
    ({"instruction": "a \ud800"}, Columns(), r"row 2: field 'instruction' is 'a .ud800', but must not hold half a character, as it does at 2: name"),
    ({"instruction": "a", "n": True}, Columns(id="n"), "row 2: field 'n' is True, but must be str . int"),
    ({"instruction": "a"}, Columns(reference="output"), "row 2: field 'output' is missing"),
    ({"instruction": "a", "n": 1}, Columns(id="n"), "row 2: the id '1' is taken by .*row 1, which asks something else")])
def test_a_bad_row_is_named_with_its_field(tmp_path, row, columns, message):
    path = jsonl(tmp_path/"own.jsonl", [{"instruction": "fine", "output": "", "n": 1}, row])
    with pytest.raises(ValueError, match=message): load_problems(path, columns)


def test_a_torn_file_is_named_with_its_row(tmp_path):
    path = tmp_path/"own.jsonl"
    path.write_text(json.dumps(EVOL[0]) + "\n" + json.dumps(EVOL[1])[:-9])
    with pytest.raises(ValueError, match=r"own\.jsonl, row 2: cannot be read"): load_problems(str(path))
    (tmp_path/"own.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(ValueError, match=r"own\.parquet, row 1: cannot be read"): load_problems(str(tmp_path/"own.parquet"))


@pytest.mark.parametrize("source, options, message", [
    ("programs", {}, "say how many"), ("programs", {"limit": 0}, "limit is 0"), ("none.jsonl", {}, "no such file"),
    ("no/such/folder", {}, "no/such/folder, split 'train': cannot be loaded")])
def test_what_cannot_be_had_is_told(source, options, message):
    with pytest.raises(ValueError, match=message): load_problems(source, **options)


def test_an_unknown_split_is_told(evol):
    with pytest.raises(ValueError, match="split 'test': cannot be loaded .*Unknown split"): load_problems(evol, split="test")


@given(st.lists(st.sampled_from(["a", "b", "c", " ", ""]), min_size=1), st.none() | st.integers(1, 4))
def test_every_question_once_and_every_row_accounted_for(texts, limit):
    rows = [(f"row {i}", Problem(text_id(t), "x", t, "", 0)) for i, t in enumerate(texts)]
    if not "".join(texts).strip():
        with pytest.raises(ValueError, match="no problems"): without_repeats(rows, limit)
        return
    found, left_out = without_repeats(rows, limit)
    assert [p.prompt for p in found] == list(dict.fromkeys(t for t in texts if t.strip()))[:limit]
    assert limit or len(found) + len(left_out) == len(texts)
    assert all(why.startswith("the question of row ") == bool(texts[int(where[4:])].strip()) for where, why in left_out.items())

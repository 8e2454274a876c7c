"A set is whole or not there: kills, full disks, torn files; and every row is accounted for."
import gzip, json, multiprocessing, os, resource, signal, time

import pandas as pd
import pyarrow as pa
import pytest
import yaml
from pyarrow import parquet

from z1.core import Ledger, Problem, root, random_stream
from z1.data.curation import (ROW_COLUMNS, FILES, RELEASE, Settings, Sieve, check_set, curate, load_set, read_set,
                         set_statistics, size_category, standard_filters, to_row, tokenizer_name)
from z1.nano.tokenizer import train_tokenizer
from z1.data.filters import RejectedByJudge
from z1.nano.programs import STYLES, make_problems

SETTINGS = Settings(tokens=300, near_fields=("response",), near=.95)
TESTS = [Problem("t0", "ours", "alpha bravo charlie delta echo foxtrot golf hotel india juliett kilo", "?", 0)]


def make_rows(n):
    "Rows of the nano world with every fault, the same each time."
    for i, p in enumerate(make_problems("train", n)):
        response = STYLES["r1" if i % 4 == 1 else "z1"](p).response
        row = dict(id=p.id, question=p.prompt, response=response, difficulty=p.difficulty, run="r", status="ended")
        if i % 20 == 3: row["status"] = "length"
        if i % 20 == 4: row["response"] = "Let me check that again.\n" * 30
        if i % 20 == 5: row["question"] = f"Number {i}: {TESTS[0].prompt}"
        if i % 20 == 6: row["question"] = "What is it?"
        if i % 20 == 7: row["id"] = "train-0-0"
        yield to_row(p.id, row)


def slow(row):
    "A judge that takes its time."
    time.sleep(.001)
    return "not today" if "7." in row["response"] else ""


def curated(folder, tokenizer=None, n=300, batch=32, log=None, **kw):
    "One curation, as a notebook would do it."
    with Ledger(folder/"verdicts.jsonl", key="key", run="slow", sync_every=8) as ledger:
        before = len(ledger)
        judge = RejectedByJudge(slow, ledger, workers=1)
        rows = make_rows(n) if tokenizer else (r | {"token_num_qwen": len(r["response"]) // 3} for r in make_rows(n))
        made = curate(rows, folder, "the nano world", tokenizer, TESTS, SETTINGS, {"not today": judge}, batch=batch,
                          progress=False, **kw)
    return made, before


def contents(folder): return {name: (folder/name).read_bytes() for name in FILES}


@pytest.fixture(scope="module")
def tokenizer(): return train_tokenizer([r["response"] for r in make_rows(100)])


@pytest.fixture(scope="module")
def whole(tokenizer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    return folder, curated(folder, tokenizer)[0]


# -- every row is somewhere ------------------------------------------------------------------------------------------

def test_every_row_is_kept_or_dropped_for_one_reason(whole, tokenizer):
    folder, made = whole
    kept, dropped = (pd.read_parquet(folder/name) for name in FILES[:2])
    rows = list(make_rows(300))
    assert len(kept) + len(dropped) == 300 and sum(made["dropped"].values()) == len(dropped)
    assert dropped.reason.value_counts().to_dict() == {k: n for k, n in made["dropped"].items() if n}
    assert dropped.detail.str.len().min() > 0
    assert {"incomplete", "repetition", "contaminated", "not today", "duplicate id", "duplicate question",
            "too long"} <= set(dropped.reason)
    assert kept.id.is_unique and kept.question.str.lower().is_unique and not kept.response.str.contains("<think>").any()
    order = {(r["id"], r["question"]): i for i, r in enumerate(rows)}
    for part in (kept, dropped):
        places = [order[pair] for pair in zip(part.id, part.question)]
        assert places == sorted(places)
    assert [len(ids) for ids in tokenizer(list(kept.response)).input_ids] == list(kept.token_num_qwen)
    assert kept.token_num_qwen.max() <= SETTINGS.tokens and list(kept.columns) == list(ROW_COLUMNS)


def test_no_response_is_cut(whole):
    given = {(r["id"], r["question"]): r["response"] for r in make_rows(300)}
    for r in pd.read_parquet(whole[0]/"train.parquet").itertuples():
        assert r.response.split() == given[r.id, r.question].replace("<think>", " ").replace("</think>", " ").split()


def test_the_size_of_batches_changes_nothing(whole, tokenizer, tmp_path):
    for batch in (1, 300):
        (tmp_path/str(batch)).mkdir()
        curated(tmp_path/str(batch), tokenizer, batch=batch)
        for name in FILES[:2]:
            assert parquet.read_table(tmp_path/str(batch)/name).equals(parquet.read_table(whole[0]/name))


def test_filters_stand_in_the_stated_order():
    judges = {"judge": lambda rows: [""] * len(rows)}
    assert list(standard_filters(problems=TESTS, judges=judges)) == [
        "incomplete", "repetition", "contaminated", "too long", "judge", "duplicate id", "duplicate question",
        "near duplicate question", "near duplicate response"]
    assert "contaminated" not in standard_filters()


def test_filters_for_duplicates_can_be_switched_off():
    assert list(standard_filters(Settings(exact_fields=(), near_fields=()))) == ["incomplete", "repetition", "too long"]
    rows = [dict(id="0", question="Why?", response="because", token_num_qwen=1) for _ in range(3)]
    for fields, left in (((), 3), (("question",), 1), (("id",), 1)):
        assert len(Sieve(standard_filters(Settings(exact_fields=fields, near_fields=())))([dict(r) for r in rows])[0]) == left


def test_a_dropped_row_is_nobodys_first():
    kinds = [("length", 1), ("", 999), ("", 1), ("", 1)]
    rows = [dict(id=str(i), question="Why?", response="a b c", status=status, token_num_qwen=n)
            for i, (status, n) in enumerate(kinds)]
    kept, dropped = Sieve(standard_filters(Settings(tokens=10)))(rows)
    assert [r["id"] for r in kept] == ["2"]
    assert [r["reason"] for r in dropped] == ["incomplete", "too long", "duplicate question"]


def test_a_filter_must_answer_for_every_row():
    with pytest.raises(ValueError, match="filter 'odd' gave 1 verdicts on 2 rows"):
        Sieve({"odd": lambda rows: [""]})([{}, {}])


def test_no_row_left(tmp_path):
    with pytest.raises(ValueError, match=r"here: no row left; dropped: \{'incomplete': 1\}"):
        curate([to_row("", dict(id="a", question="?", response=""))], tmp_path, "here", progress=False)
    with pytest.raises(ValueError, match="no finished set"): load_set(tmp_path)


# -- reading ---------------------------------------------------------------------------------------------------------

GOOD = dict(id="a", question="2 + 2?", response="4", token_num_qwen=1)


def test_the_release_is_read_from_any_file(tmp_path):
    rows = [GOOD, GOOD | {"id": "b"}]
    (tmp_path/"a.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    with gzip.open(tmp_path/"b.jsonl.gz", "wt") as f: f.write((tmp_path/"a.jsonl").read_text())
    parquet.write_table(pa.Table.from_pylist(rows), tmp_path/"c.parquet")
    parquet.write_table(pa.Table.from_pylist([r | {"id": i} for i, r in enumerate(rows)]), tmp_path/"numbers.parquet")
    a, b, c = (list(read_set(tmp_path/name)) for name in ("a.jsonl", "b.jsonl.gz", "c.parquet"))
    assert a == b == c and list(a[0]) == list(ROW_COLUMNS) and a[0] | GOOD == a[0]
    assert [r["id"] for r in read_set(tmp_path/"numbers.parquet")] == ["0", "1"]


@pytest.mark.parametrize("field, bad", [("id", None), ("id", 1.5), ("question", None), ("response", ["4"]),
                                        ("token_num_qwen", "1"), ("token_num_qwen", 1.5), ("token_num_qwen", 2**63), ("id", "\ud83d"), ("status", 3),
                                        ("difficulty", True)])
def test_a_bad_field_is_named(field, bad, tmp_path):
    (tmp_path/"r.jsonl").write_text(json.dumps(GOOD) + "\n" + json.dumps(GOOD | {field: bad}) + "\n")
    with pytest.raises(ValueError, match=rf"r\.jsonl, row 2: field '{field}'"): list(read_set(tmp_path/"r.jsonl"))


def test_a_torn_source_and_none(tmp_path):
    (tmp_path/"r.jsonl").write_text(json.dumps(GOOD) + '\n{"id": "b", "qu')
    with pytest.raises(ValueError, match=r"r\.jsonl, row 2: cannot be read"): list(read_set(tmp_path/"r.jsonl"))
    for name in ("none.parquet", "none", "a/b/c"):
        with pytest.raises(ValueError, match="there is no such file"): list(read_set(name))


def test_the_hub_is_asked_by_name(monkeypatch):
    import datasets
    asked = []
    def load(name, split):
        asked.append((name, split))
        return [GOOD, GOOD | {"response": None}]
    monkeypatch.setattr(datasets, "load_dataset", load)
    rows = read_set(RELEASE)
    assert next(rows)["response"] == "4" and asked == [(RELEASE, "train")]
    with pytest.raises(ValueError, match="Z1-Code-Reasoning-107K, row 2: field 'response'"): next(rows)


# -- writing ---------------------------------------------------------------------------------------------------------

def work(folder): curated(folder)


def test_killed_twenty_times(tmp_path):
    context, random = multiprocessing.get_context("forkserver"), random_stream("kill", "curation")
    context.set_forkserver_preload(["z1.data.curation", "z1.rows", "z1.data.filters"])
    whole, broken = tmp_path/"whole", tmp_path/"broken"
    for folder in (whole, broken): folder.mkdir()
    def start(folder):
        process = context.Process(target=work, args=(folder,))
        process.start()
        return process
    context.Process(target=id, args=(0,)).start()  # the server's imports are not timed
    begin = time.perf_counter()
    start(whole).join()
    seconds, killed, done, resumed = time.perf_counter() - begin, 0, 0, 0
    while killed < 20:
        process = start(broken)
        process.join(random.uniform(0, seconds))
        if process.is_alive():
            os.kill(process.pid, signal.SIGKILL)
            killed += 1
        process.join()
        lines = (broken/"verdicts.jsonl").read_bytes().count(b"\n") if (broken/"verdicts.jsonl").exists() else 0
        assert lines >= done, "verdicts were lost"
        resumed, done = resumed + (0 < done < lines), lines
        if (broken/"manifest.json").exists():
            assert contents(broken) == contents(whole)  # a set is whole or not there
            if process.exitcode == 0: (broken/"verdicts.jsonl").unlink(); done = 0
    curated(broken)
    assert resumed, "no run went on where another was killed"
    assert contents(broken) == contents(whole) and not (broken/".part").exists()
    asked, wanted = ([json.loads(line)["key"] for line in open(f/"verdicts.jsonl")] for f in (broken, whole))
    assert len(asked) == len(set(asked)) and sorted(asked) == sorted(wanted)


def cramped(folder, queue):
    "Curation on a disk with room for 20 KB a file."
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
    def text(i): return " ".join(map(str, random_stream(i).sample(range(10**6), 60)))
    rows = (to_row("", GOOD | dict(id=str(i), question=f"Question {i}?", response=text(i))) for i in range(2000))
    try: curate(rows, folder, "here", progress=False)
    except OSError as e: queue.put(str(e))
    else: queue.put("nothing happened")


def test_a_full_disk_leaves_the_old_set(tokenizer, tmp_path):
    curated(tmp_path, tokenizer, n=60)
    before, context = contents(tmp_path), multiprocessing.get_context("forkserver")
    queue = context.SimpleQueue()
    process = context.Process(target=cramped, args=(tmp_path, queue))
    process.start()
    said = queue.get()
    process.join()
    assert "curation stopped" in said and "if the disk is full make room" in said and str(tmp_path) in said
    assert contents(tmp_path) == before and len(load_set(tmp_path))


def test_an_unfinished_or_changed_set_is_refused(tokenizer, tmp_path):
    curated(tmp_path, tokenizer, n=60)
    assert check_set(tmp_path) == tmp_path
    for name in FILES:
        data = (tmp_path/name).read_bytes()
        for torn in (data[:-10], data[:50] + b"x" + data[51:], b""):
            (tmp_path/name).write_bytes(torn)
            with pytest.raises(ValueError, match=rf"{name}: missing, torn or changed"): load_set(tmp_path)
        (tmp_path/name).write_bytes(data)
    manifest = (tmp_path/"manifest.json").read_text()
    for text in ("", manifest[:100], "{}"):
        (tmp_path/"manifest.json").write_text(text)
        with pytest.raises(ValueError, match="no finished set"): list(read_set(tmp_path))


def test_other_settings_make_another_run(whole, tokenizer, tmp_path):
    other = Settings(tokens=299, near_fields=())
    made = curate(make_rows(300), tmp_path, "the nano world", tokenizer, TESTS, other, progress=False)
    assert made["run"] != whole[1]["run"] and made["digests"] != whole[1]["digests"]


# -- the card, and the hub -------------------------------------------------------------------------------------------

def test_the_card_tells_what_was_measured(whole):
    folder, made = whole
    text = (folder/"README.md").read_text()
    front = yaml.safe_load(text.split("---\n")[1])
    assert front["configs"] == [{"config_name": "default", "data_files": [{"split": "train", "path": "train.parquet"}]}]
    assert front["size_categories"] == [size_category(made["statistics"]["rows"])]
    for reason, n in made["dropped"].items(): assert f"| {reason} | {n:,} |" in text
    assert f"{made['statistics']['tokens']:,} tokens" in text
    assert "Not decontaminated" not in text and str(root()) not in text
    assert sum(made["statistics"]["histogram"]) == made["statistics"]["rows"]


def test_datasets_reads_the_folder(whole, tmp_path):
    from datasets import load_dataset
    found = load_dataset(str(whole[0]), cache_dir=str(tmp_path))
    assert list(found) == ["train"] and found["train"].to_list() == load_set(whole[0]).to_list()


def test_a_set_without_decontamination_says_so(tmp_path):
    curate([to_row("", GOOD)], tmp_path, "here", progress=False)
    assert "**Not decontaminated**" in (tmp_path/"README.md").read_text()


def test_statistics():
    found = set_statistics([1, 2, 3, 100, 8192], 8192)
    assert [found[k] for k in ("rows", "tokens", "min", "median", "max")] == [5, 8298, 1, 3, 8192]
    assert found["edges"][::8] == [0, 4096, 8192] and found["histogram"] == [4, *[0] * 14, 1]
    names = {1: "n<1K", 999: "n<1K", 1000: "1K<n<10K", 107_173: "100K<n<1M", 5_000_000: "1M<n<10M"}
    assert {n: size_category(n) for n in names} == names


def test_a_card_does_not_tell_where_files_are(tmp_path):
    class Named: name_or_path = ""
    for name, shown in (("Qwen/Qwen2.5", "Qwen/Qwen2.5"), (str(tmp_path/"mine"), "mine"), ("", "unnamed")):
        Named.name_or_path = name
        assert tokenizer_name(Named()) == shown
    assert tokenizer_name() == "the source"


def test_the_hub_is_written_to_only_when_asked(monkeypatch, tmp_path):
    import huggingface_hub
    calls = []
    class Api:
        def create_repo(self, name, **kw): calls.append(("create", name, kw))
        def upload_folder(self, **kw): calls.append(("upload", kw["repo_id"], kw))
    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    curate([to_row("", GOOD)], tmp_path, "here", progress=False)
    assert calls == []
    curate([to_row("", GOOD)], tmp_path, "here", progress=False, push_to_hub="me/mine")
    assert [call[:2] for call in calls] == [("create", "me/mine"), ("upload", "me/mine")]
    assert calls[0][2]["private"] is True
    assert calls[1][2]["allow_patterns"] == ["train.parquet", "README.md", "manifest.json"]

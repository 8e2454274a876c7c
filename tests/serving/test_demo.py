"The page as people use it: served on a free port with the nano model, and asked by Gradio's own client."
import contextlib
import io
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("gradio", reason="pip install 'z1[demo]'")
from gradio_client import Client

from z1.nano.programs import make_problems
from z1.policies import POLICIES, make_policies
from z1.recipes.coder_results import PART_COLOURS
from z1.serving.demo import COLOURS, coloured, counted, make_app, read_words, typed_request
from z1.serving.streams import Stepped
from z1.window import CLOSINGS, HINT

ROOT = Path(__file__).resolve().parents[2]
QUESTION = next(p.prompt for p in make_problems("test", 100, seed=5) if p.difficulty > 11)
ANSWER = HINT + "The final answer is "
SPEED = 0.0  # seconds a step takes at least


def paced(self, requests, step=Stepped.__call__):
    time.sleep(SPEED)
    return step(self, requests)


@pytest.fixture(scope="module")
def app(plain):
    patch = pytest.MonkeyPatch()
    patch.setattr(Stepped, "__call__", paced)
    app = make_app(plain, "nano", users=3)
    with contextlib.redirect_stdout(io.StringIO()):
        app.launch(prevent_thread_lock=True, quiet=True, show_error=True)
        yield app
        app.close()
    patch.undo()


@pytest.fixture
def slowly(monkeypatch): monkeypatch.setattr(sys.modules[__name__], "SPEED", 0.02)


@pytest.fixture
def client(app): return Client(app.local_url, verbose=False)


def said(text): return "".join(part["token"] for part in text)


def pairs(text): return [(part["token"], part["class_or_confidence"]) for part in text]


def expected(engine, *typed):
    "What `generate` gives for the same settings."
    request = typed_request(engine, *typed)
    [(_, ids)] = engine.generate([request], progress=False)
    return coloured(engine, request.policy, ids), counted(request.policy, ids)


def eventually(true, seconds=10):
    until = time.monotonic() + seconds
    while not true() and time.monotonic() < until: time.sleep(0.02)
    return true()


@pytest.mark.parametrize("policy", [*POLICIES, "tip+shifted"])
def test_text_and_counts_are_those_of_generate(plain, client, policy):
    if policy == "tip+shifted" and not knows_a_switch(plain): pytest.skip("the nano model knows none of the words")
    text, counts = client.predict(QUESTION, policy, 48, ANSWER, 16, api_name="/decode")
    assert (pairs(text), counts) == expected(plain, QUESTION, policy, 48, ANSWER, 16)
    assert sum(map(int, re.findall(r"(\d+) (?:thinking|hint|answer)", counts))) == int(re.search(r"= (\d+)", counts)[1])


def knows_a_switch(engine):
    try: make_policies("tip+shifted", [8], engine.tokenizer, ANSWER)
    except ValueError: return False
    return True


def test_it_is_there_within_a_second(client):
    begun = time.monotonic()
    client.predict(QUESTION, "shifted", 128, "overthought", 16, api_name="/decode")
    assert time.monotonic() - begun < 5  # on a busy machine; alone it is a fraction of one


def test_the_text_grows_while_it_is_decoded(plain, client, slowly):
    job = client.submit(QUESTION, "shifted", 60, ANSWER, 16, api_name="/decode")
    looks = [(said(text), counts) for text, counts in job]
    texts = [text for text, _ in looks]
    assert len(set(texts)) > 5 and all(b.startswith(a) for a, b in zip(texts, texts[1:]))
    assert {counts.rpartition("; ")[2] for _, counts in looks[:-1]} == {"decoding"}
    numbers = [int(re.search(r"= (\d+)", counts)[1]) for _, counts in looks]
    assert numbers == sorted(numbers)
    parts, counts = expected(plain, QUESTION, "shifted", 60, ANSWER, 16)
    assert looks[-1] == ("".join(text for text, _ in parts), counts)


def test_several_at_once_each_with_settings_of_their_own(plain, app, slowly):
    settings = [(QUESTION, "shifted", 40, ANSWER, 16), (QUESTION, "hard_cut", 56, "neutral", 16),
                (QUESTION.replace("1: ", "1:  ", 1), "grace", 24, "baseline", 8)]
    jobs, most = [Client(app.local_url, verbose=False).submit(*typed, api_name="/decode") for typed in settings], 0
    while not all(job.done() for job in jobs):
        most = max(most, len(app.streams.running))
        time.sleep(0.01)
    for job, typed in zip(jobs, settings):
        text, counts = job.result()
        assert (pairs(text), counts) == expected(plain, *typed)
    assert most == 3, "they were decoded one after the other"


def test_cancelling_frees_the_engine_and_disturbs_nobody(plain, app, client, slowly):
    other = Client(app.local_url, verbose=False).submit(QUESTION, "shifted", 60, ANSWER, 16, api_name="/decode")
    job = client.submit(QUESTION, "unlimited", 1000, ANSWER, 16, api_name="/decode")
    assert eventually(lambda: len(app.streams.running) == 2 and len(job.outputs()) > 1)
    job.cancel()
    assert eventually(lambda: len(app.streams.running) < 2, 3)
    text, counts = other.result()
    assert (pairs(text), counts) == expected(plain, QUESTION, "shifted", 60, ANSWER, 16)
    assert eventually(lambda: not app.streams.running and not app.streams.thread)


def test_somebody_who_vanishes_frees_the_engine_too(app, slowly):
    code = ("from gradio_client import Client; import sys; "
            "Client(sys.argv[1], verbose=False).submit(sys.argv[2], 'hard_cut', 1100, '', 16, api_name='/decode').result()")
    process = subprocess.Popen([sys.executable, "-c", code, app.local_url, QUESTION.replace("1: ", "1:  ", 1)])
    try:
        assert eventually(lambda: app.streams.running, 60)
        time.sleep(1)  # it has asked, and begins to listen
    finally: process.kill()
    process.wait()
    assert eventually(lambda: not app.streams.running)


BAD = {("window", -1): "the window must be a whole number of tokens, 1 or more, but is -1",
       ("window", 0): "the window must be a whole number of tokens, 1 or more, but is 0",
       ("window", 2.5): "the window must be a whole number of tokens, 1 or more, but is 2.5",
       ("window", None): "the window must be a whole number of tokens, 1 or more, but is empty",
       ("window", 1250): "your question: a prompt of .* new tokens make .*, but the context is 1280: shorten either",
       ("answer_tokens", 0): "the answer's room must be a whole number of tokens, 1 or more, but is 0",
       ("policy", "forever"): "unknown policy 'forever': use one of shifted, .*",
       ("policy", "tip+tip+shifted"): "unknown policy .*",
       ("policy", None): "unknown policy '': use one of .*",
       ("policy", "tip+no_thinking"): "tip.no_thinking: where nothing is thought there is nothing to penalise",
       ("closing", " "): "the closing phrase is empty, and shifted needs one: .*",
       ("closing", "so<|im_end|>"): "ShiftedWindow.hint_ids contains .*, which ends the turn: leave it out.*",
       ("question", "  "): "the question is empty: write one",
       ("question", QUESTION * 40): "your question: a prompt of .* shorten either"}


@pytest.mark.parametrize("field, value", BAD, ids=lambda x: str(x)[:20])
def test_a_bad_setting_is_answered_with_a_sentence(app, client, field, value):
    typed = {"question": QUESTION, "policy": "shifted", "window": 32, "closing": "overthought", "answer_tokens": 16} | {field: value}
    with pytest.raises(Exception) as caught: client.predict(*typed.values(), api_name="/decode")
    assert re.fullmatch(BAD[field, value], str(caught.value).strip("'\""), re.S) and not app.streams.running


def test_what_was_typed_is_not_taken_for_html(client):
    with pytest.raises(Exception, match="unknown policy '&lt;b&gt;'"): client.predict(QUESTION, "<b>", 32, "neutral", 16, api_name="/decode")


def test_a_dead_engine_is_answered_with_a_sentence(app, client, monkeypatch):
    def dead(self, requests): raise ConnectionError("the server at http://localhost:1/v1 does not answer")
    monkeypatch.setattr(Stepped, "__call__", dead)
    with pytest.raises(Exception, match="does not answer"): client.predict(QUESTION, "shifted", 32, "neutral", 16, api_name="/decode")
    monkeypatch.undo()
    assert client.predict(QUESTION, "shifted", 32, "neutral", 16, api_name="/decode")


def test_every_policy_and_closing_phrase_can_be_chosen(client):
    fields = {p["label"]: p for p in client.view_api(return_format="dict", print_info=False)["named_endpoints"]["/decode"]["parameters"]}
    for name in (*POLICIES, *CLOSINGS): assert f"'{name}'" in str(fields)


def test_the_colours_are_those_of_the_figures(): assert COLOURS == PART_COLOURS


@pytest.mark.parametrize("words, why", [((), "required: model"), (("M", "--engine", "onnx"), "invalid choice"), (("M", "--users", "0"), "must be 1 or more"),
                                        (("M", "--engine", "endpoint"), "needs --url"), (("M", "--url", "http://x/v1"), "needs --url")])
def test_words_that_cannot_be_meant(words, why, capsys):
    with pytest.raises(SystemExit): read_words(words)
    assert why in capsys.readouterr().err


def test_from_the_command_line():
    process = subprocess.Popen([sys.executable, "-m", "z1.demo", str(ROOT/"data"/"models"/"nano"/"z1-s0")], stdout=subprocess.PIPE, text=True,
                               env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1", "PYTHONPATH": str(ROOT)})
    try:
        url = next(found[0] for line in process.stdout if (found := re.search(r"http://127.0.0.1:\d+", line)))
        assert Client(url, verbose=False).predict(QUESTION, "shifted", 16, ANSWER, 8, api_name="/decode")[1].startswith("16 thinking")
    finally:
        process.terminate()
        process.wait(30)

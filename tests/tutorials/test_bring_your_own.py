"The tutorial `bring_your_own`, as a reader runs it: as it is, and through papermill with own problems and teacher."
import json
import re
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pandas as pd
import pytest

from z1.core import Problem
from z1.data.curation import check_set, load_set
from z1.measure.sweep import read_samples
from z1.data.problems import text_id
from z1.nano.programs import QUESTION, difficulty, execute, make_problems, program_of, z1_style

papermill = pytest.importorskip("papermill")

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOK = ROOT/"nbs"/"tutorials"/"bring_your_own.ipynb"
ORDER = "Say what comes out of this."


def run(out, **parameters):
    "What the notebook printed."
    done = papermill.execute_notebook(NOTEBOOK, out, parameters, cwd=ROOT, progress_bar=False, kernel_name="python3")
    outputs = [o for cell in done.cells for o in cell.get("outputs", [])]
    return "".join(o["text"] for o in outputs if o["output_type"] == "stream" and o["name"] == "stdout")


# -- a teacher, and problems ----------------------------------------------------------------------------------------

def respond(prompt):
    "What a flawless teacher writes; None if it is no question of ours."
    if ORDER not in prompt: return None
    p = Problem("", "", QUESTION + "\n".join(re.findall(r"^\d: .*", prompt, re.M)), "", 0)
    answer = execute(program_of(p))[1]
    return z1_style(Problem("", "", p.prompt, answer, difficulty(program_of(p)))).response


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *args): pass

    def say(self, status, answer):
        data = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self):
        self.say(200, {"data": [{"id": "other", "max_model_len": 64}, {"id": "mine", "max_model_len": 1280}]})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if not isinstance(body["prompt"], str): return self.say(400, {"error": {"message": "text, please"}})
        text = respond(body["prompt"])
        if text is not None: self.server.asked.append(body)
        if self.server.wrong and text: text = re.sub(r"\d\.$", "10.", text)
        self.say(200, {"choices": [{"text": text or "Hm.", "finish_reason": "stop"}]})


@contextmanager
def teacher(wrong=False):
    "An endpoint on a free port that keeps what it was asked."
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.asked, server.wrong, server.url = [], wrong, f"http://127.0.0.1:{server.server_port}/v1"
    Thread(target=server.serve_forever, daemon=True).start()
    try: yield server
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="module")
def mine(tmp_path_factory):
    "Forty short problems in a file whose columns have other names, and the parameters that go with it."
    folder = tmp_path_factory.mktemp("mine")
    problems = list(make_problems("train", 40, seed=11, shares=(20, 80, 0, 0, 0)))
    rows = [{"number": i, "task": f"{ORDER}\n{p.prompt.removeprefix(QUESTION)}", "gold": p.answer}
            for i, p in enumerate(problems)]
    (folder/"tasks.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    training = {"learning_rate": 1e-4, "warmup_steps": 1, "epochs": 1, "global_batch": 4, "micro_batch": 2,
                "max_length": 512, "bf16": False, "gradient_checkpointing": False, "save_steps": 2}
    return folder, rows, dict(
        problems=str(folder/"tasks.jsonl"), question="task", id="number", answer="gold", held_out=0.3,
        template="Please: {question}\nThink.", teacher_model="mine", teacher_tokens=300, training=training,
        windows=[8, 48], work=str(folder/"work"))


def stamps(work):
    "Size and time of everything that was paid for: responses, weights, outputs, grades."
    paths = [work/"ledger.jsonl", *(work/"model").iterdir(), *work.glob("sweep/*/*.jsonl")]
    return {str(p.relative_to(work)): (p.stat().st_size, p.stat().st_mtime_ns) for p in paths}


# -- the tests --------------------------------------------------------------------------------------------------------

def test_the_stand_ins_rise(tmp_path):
    said = run(tmp_path/"as_it_is.ipynb", work=str(tmp_path/"work"))
    assert "Fine-tuning made a difference" in said and "More thinking helps" in said
    dropped = pd.read_parquet(tmp_path/"work"/"set"/"dropped.parquet").reason
    assert {"incomplete", "contaminated", "duplicate question", "near duplicate question"} <= set(dropped)


@pytest.fixture(scope="module")
def first(mine):
    "The first run with a teacher of one's own: what it printed, what the teacher was asked."
    folder, rows, parameters = mine
    with teacher() as server: return run(folder/"first.ipynb", teacher_url=server.url, **parameters), server.asked


def test_own_problems_teacher_and_columns_are_used(mine, first):
    folder, rows, parameters = mine
    said, asked = first
    work, exam = folder/"work", {str(r["number"]) for r in rows if int(text_id(r["task"]), 16) / 16**16 < 0.3}
    assert f"{len(rows) - len(exam)} problems for the teacher, {len(exam)} held out" in said
    assert len(asked) == len(rows) - len(exam) > 0 < len(exam)
    assert all(body["model"] == "mine" and "Please: " + ORDER in body["prompt"] and "Think." in body["prompt"]
               and body["max_tokens"] == 300 for body in asked)
    trained, samples = load_set(check_set(work/"set")), read_samples(work/"sweep")
    assert not exam & set(trained["id"]) and {r["task"] for r in rows} > set(trained["question"])
    assert set(samples.problem_id) == exam and set(samples.window) == {8, 48}
    cells = {(model, window): len(exam) for model in ("base", "tuned") for window in (8, 48)}
    assert samples.groupby(["model", "window"]).size().to_dict() == cells
    made = json.loads((work/"model"/"manifest.json").read_text())
    assert made["config"]["learning_rate"] == 1e-4 and made["rows"] == len(trained)
    assert (work/"figures"/"curve.svg").stat().st_size > 10_000


def test_the_second_run_repeats_nothing(mine, first):
    folder, rows, parameters = mine
    before = stamps(folder/"work")
    with teacher() as server:                                            # on another port
        said = run(folder/"second.ipynb", teacher_url=server.url, **parameters)
        assert server.asked == []
    assert said.count("0 outputs decoded") == 2
    assert stamps(folder/"work") == before


def test_another_template_is_refused_by_the_ledger(mine, first):
    folder, rows, parameters = mine
    before = stamps(folder/"work")
    with teacher() as server, pytest.raises(papermill.PapermillExecutionError, match="template was"):
        run(folder/"third.ipynb", teacher_url=server.url, **parameters | {"template": "{question}"})
    assert stamps(folder/"work") == before


def test_only_right_responses_are_learned_if_one_says_so(mine, tmp_path):
    folder, rows, parameters = mine
    with teacher(wrong=True) as server, pytest.raises(papermill.PapermillExecutionError, match="'wrong answer': "):
        changes = {"teacher_url": server.url, "only_right": True, "work": str(tmp_path/"work")}
        run(tmp_path/"wrong.ipynb", **parameters | changes)
    assert not (tmp_path/"work"/"model").exists()

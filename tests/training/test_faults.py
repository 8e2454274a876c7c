"Training that is killed at any moment, or meets a full disk, torn files, a changed job: the same weights, or an error."
import json, os, random, resource, select, shutil, signal, socket, subprocess, sys, time, traceback
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


# -- processes that start at once -----------------------------------------------------------------------------------

def serve():
    "For each line on stdin, a job's file, an environment and a file for the last words: fork, train, and tell the id."
    import trl.trainer.sft_trainer, transformers.models.qwen2.modeling_qwen2, z1.training.finetune  # noqa: what takes seconds
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for line in sys.stdin:
        job, environment, said = json.loads(line)
        if not (pid := os.fork()): train(job, environment, said)
        print(pid, flush=True)


def train(job, environment, said):
    "Run a job in this process, and end it."
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.environ |= environment
    for stream in (1, 2): os.dup2(os.open(said, os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream)
    try:
        if environment: from z1.training.fsdp_on_cpu import shard_on_cpus; shard_on_cpus()
        from z1.training.finetune import main
        main(job)
    except BaseException: traceback.print_exc()
    finally: sys.stderr.flush(), os._exit(0)


if __name__ == "__main__": sys.exit(serve())

import torch
from datasets import Dataset, disable_progress_bars
from transformers.utils import logging

import z1.training.finetune
from z1.nano.tokenizer import train_tokenizer
from z1.training.finetune import FineTuning, finetune
from z1.nano.training import Architecture, new_model

disable_progress_bars(), logging.disable_progress_bar()


class Warm:
    "A process that has imported everything: what it forks trains within a tenth of a second."
    def __init__(self, folder):
        environment = os.environ | {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1",
                                    "HF_HOME": str(folder/"hf"), "PYTHONPATH": str(ROOT)}
        self.parent = subprocess.Popen([sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                       text=True, env=environment, cwd=ROOT)

    def __call__(self, job, processes):
        "Start a job; a file descriptor for each of its processes."
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            port = s.getsockname()[1]
        return [self.fork(job, {} if processes == 1 else dict(
            MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), RANK=str(rank), LOCAL_RANK=str(rank),
            WORLD_SIZE=str(processes), LOCAL_WORLD_SIZE=str(processes))) for rank in range(processes)]

    def fork(self, job, environment):
        self.parent.stdin.write(json.dumps([str(job), environment, str(job.with_suffix(".said"))]) + "\n")
        self.parent.stdin.flush()
        return os.pidfd_open(int(self.parent.stdout.readline()))


def ended(started, seconds):
    "Wait for processes; whether all of them have ended in time."
    until, left = time.time() + seconds, set(started)
    while left and (now := time.time()) < until:
        left -= set(select.select(list(left), [], [], until - now)[0])
    return not left


def kill(started):
    for process in started:
        try: signal.pidfd_send_signal(process, signal.SIGKILL)
        except ProcessLookupError: pass                                # it has ended by itself
    assert ended(started, 20)


@pytest.fixture(scope="module")
def warm(tmp_path_factory):
    made = Warm(tmp_path_factory.mktemp("warm"))
    yield made
    made.parent.stdin.close()
    made.parent.wait()


# -- jobs -------------------------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def rows():
    draw = random.Random(0)
    def text(most): return " ".join(str(draw.randint(0, 99)) for _ in range(draw.randint(1, most)))
    return Dataset.from_list([{"question": text(4), "response": text(12)} for _ in range(64)])


@pytest.fixture(scope="module")
def tiny(rows, tmp_path_factory):
    "The configuration of short runs with many checkpoints."
    base, tokenizer = tmp_path_factory.mktemp("base"), train_tokenizer(rows["question"][:] + rows["response"][:])
    new_model(Architecture(hidden=16, layers=2, heads=2, feed_forward=32), tokenizer, seed=0).save_pretrained(base)
    tokenizer.save_pretrained(base)
    return FineTuning(base=str(base), learning_rate=1e-2, warmup_steps=3, global_batch=4, micro_batch=2, max_length=64,
                      epochs=2, bf16=False, gradient_checkpointing=False, save_steps=2)


@pytest.fixture(scope="module")
def job(tiny, rows, tmp_path_factory):
    "A function that writes a job, and returns its file."
    folder = tmp_path_factory.mktemp("jobs")
    rows.to_parquet(folder/"rows.parquet")

    def write(name, **over):
        made = asdict(tiny) | {"rows": str(folder/"rows.parquet"), "folder": str(folder/name)} | over
        (folder/f"{name}.json").write_text(json.dumps(made))
        return folder/f"{name}.json"
    return write


def result(folder):
    "What two runs must share: the published files, and the log but for its seconds."
    names = ("step", "loss", "grad_norm", "learning_rate", "tokens")
    log = [[entry[n] for n in names] for entry in map(json.loads, open(folder/"log.jsonl"))]
    assert [entry[0] for entry in log] == list(range(1, len(log) + 1)), "a step twice, or none"
    files = ("model.safetensors", "config.json", "generation_config.json", "tokenizer.json", "chat_template.jinja")
    return log, {name: (folder/name).read_bytes() for name in files}


# -- kill -9 ----------------------------------------------------------------------------------------------------------

def steps_of(marks): return [int(mark.parent.name.split("-")[1]) for mark in marks]


class Run:
    "A run on disk, between the lives of its processes."
    def __init__(self, job):
        self.job, self.folder = job, job.with_suffix("")
        self.work, self.staging = Path(f"{self.folder}.work"), self.folder.with_name(f".{self.folder.name}.staging")

    def reached(self): return max(steps_of(self.work.glob("checkpoint-*/whole")), default=0)

    def since(self, begin):
        "What its processes last did, seen from the files that are younger than their beginning."
        def young(path):
            try: return path.stat().st_mtime > begin
            except FileNotFoundError: return False                    # an old checkpoint may vanish at any moment
        saving = [c for c in self.work.glob("checkpoint-*") if young(c) and not (c/"whole").exists()]
        if self.folder.exists(): return "clearing away"
        if young(self.staging): return "publishing"
        if saving: return "saving"
        return "training" if young(self.work/"log.jsonl") else "starting"


def live(run, started, kind, pause):
    "Let processes run up to a moment; whether one of them is still there."
    begin = time.time()
    while kind != "anywhere" and run.since(begin) != kind and not ended(started, 0.001): pass
    return not ended(started, pause)


@pytest.mark.parametrize("processes", [1, 2], ids=["one process", "two sharded processes"])
def test_killed_twenty_times(warm, job, processes):
    draw, wholes = random.Random(processes), {}
    for packing in ("bfd", "none"):
        made = Run(job(f"whole-{packing}-{processes}", packing=packing))
        begin = time.time()
        started = warm(made.job, processes)
        assert ended(started, 120) and made.folder.exists(), made.job.with_suffix(".said").read_text()[-4000:]
        seconds = time.time() - begin
        wholes[packing] = result(made.folder)
    phases, alone, resumed, series, lives = Counter(), Counter(), 0, 0, 0
    aims = ["anywhere"] * 14 + ["saving", "publishing"] * 3
    draw.shuffle(aims)

    def another():
        packing = ("bfd", "none")[series % 2]
        return Run(job(f"killed-{series}-{processes}", packing=packing)), wholes[packing]

    run, whole = another()
    while aims:
        begin, before, lives = time.time(), run.reached(), lives + 1
        started = warm(run.job, processes)
        if live(run, started, aims[-1], draw.uniform(0, seconds if aims[-1] == "anywhere" else 0.01)):
            aims.pop()
            if processes == 2 and len(aims) % 3 == 0:    # one process is lost; torchrun would end the other one
                kill(started[len(aims) % 2:][:1])
                alone["by itself" if ended(started, 3) else "had to be ended"] += 1
            kill(started)
            phases[run.since(begin)] += 1
        else:
            assert run.folder.exists(), run.job.with_suffix(".said").read_text()[-4000:]
            if not before: seconds = min(seconds, time.time() - begin)   # an idle machine is faster than a busy one
        assert lives < 100, "runs end before they are killed"
        for process in started: os.close(process)
        young = [c for c in run.work.glob("checkpoint-*/whole") if c.stat().st_mtime > begin]
        assert run.reached() >= before or run.folder.exists(), "a checkpoint was lost"
        assert min(steps_of(young), default=999) > before, "a step was done again though its checkpoint was whole"
        resumed += before > 0
        if run.folder.exists():                          # there is a model: it is the one, and the next run is another
            assert result(run.folder) == whole
            series += 1
            run, whole = another()
    assert ended(warm(run.job, processes), 120) and result(run.folder) == whole, "undisturbed, at last"
    assert not run.work.exists() and not run.staging.exists()
    print(f"{processes} process(es), {seconds:.1f} s a run: killed while {dict(phases)}; {resumed} lives resumed, "
          f"{series + 1} runs; where one process was killed, the other ended {dict(alone)}")      # seen with pytest -rP
    assert phases.total() == 20 and phases["saving"] and phases["publishing"] and resumed > 5


# -- full disks -------------------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def short(tiny): return replace(tiny, epochs=1)  # 15 steps, 8 checkpoints


class Stopped(BaseException): "Stands for a kill where the test's own process must live on."


def stop(*args): raise Stopped


def until_published(config, rows, folder, monkeypatch):
    "Train to the end and stop there: the folder of checkpoints is complete, and nothing is published."
    with monkeypatch.context() as patch, pytest.raises(Stopped):
        patch.setattr(z1.training.finetune, "publish_finetuned", stop)
        finetune(config, rows, folder, quiet=True)
    return Path(f"{folder}.work")


@pytest.fixture(scope="module")
def stopped(short, rows, tmp_path_factory):
    "A run that was stopped before publishing: its folder of checkpoints, and what it publishes when it goes on."
    folder, kept = tmp_path_factory.mktemp("stopped"), tmp_path_factory.mktemp("kept")/"work"
    with pytest.MonkeyPatch.context() as patch: shutil.copytree(until_published(short, rows, folder/"m", patch), kept)
    assert sorted(p.name for p in kept.glob("checkpoint-*")) == ["checkpoint-14", "checkpoint-15"]
    return kept, result(finetune(short, rows, folder/"m", quiet=True))


def pages(folder): return sum(-(-f.stat().st_size // 4096) * 4096 for f in folder.rglob("*") if f.is_file())


@pytest.fixture(params=["limit", "tmpfs"])
def narrow(request, tmp_path):
    "A folder, a function that leaves little room in it (for a file, or for all of them), and one that ends that."
    if request.param == "limit":
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        yield (tmp_path, lambda a_file, in_all: resource.setrlimit(resource.RLIMIT_FSIZE, (a_file, limits[1])),
               lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limits))
        return resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    folder = tmp_path/"narrow"
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "none", folder], capture_output=True, text=True)
    if done.returncode: pytest.skip(f"no file system of its own can be mounted here: {done.stderr.strip()}")
    def fill(a_file, in_all):
        with open(folder/"ballast", "wb") as f:
            free = os.statvfs(folder)
            os.posix_fallocate(f.fileno(), 0, free.f_bavail * free.f_frsize - in_all)
    yield folder, fill, (folder/"ballast").unlink
    subprocess.run(["umount", "-l", folder], check=True)


def test_a_disk_that_is_full_at_a_checkpoint(narrow, short, rows, stopped):
    folder, fill, widen = narrow
    kept, whole = stopped
    fill((kept/"checkpoint-15"/"optimizer.pt").stat().st_size - 100, int(2.5 * pages(kept/"checkpoint-15")))
    with pytest.raises(OSError, match=r"m\.work: .*; what was saved before is kept: if the disk is full make room"):
        finetune(short, rows, folder/"m", quiet=True)
    survived = list((folder/"m.work").glob("checkpoint-*/whole"))
    assert len(survived) == (2 if folder.name == "narrow" else 0) and not (folder/"m").exists()
    widen()
    assert result(finetune(short, rows, folder/"m", quiet=True)) == whole


@pytest.mark.parametrize("narrow", ["tmpfs"], indirect=True)
def test_a_disk_that_is_full_at_a_checkpoint_of_two_processes(narrow, warm, job, stopped):
    folder, fill, widen = narrow
    run, whole = Run(job("full-2", epochs=1, folder=str(folder/"m"))), Run(job("room-2", epochs=1))
    run.folder, run.work = folder/"m", folder/"m.work"
    fill(0, 4 * pages(stopped[0]/"checkpoint-15"))
    assert ended(started := warm(run.job, 2), 60) or kill(started), "both have ended"
    said = run.job.with_suffix(".said").read_text()
    assert "m.work: " in said and "if the disk is full make room" in said and not run.folder.exists()
    assert run.reached() > 0, "an earlier checkpoint survives"
    widen()
    assert ended(warm(run.job, 2), 60) and ended(warm(whole.job, 2), 60)
    assert result(run.folder) == result(whole.folder)


def test_a_disk_that_is_full_at_the_log(narrow, short, rows, stopped):
    folder, fill, widen = narrow
    rare = replace(short, save_steps=100)                                # no checkpoint before the end
    fill(2000, 8192)
    with pytest.raises(OSError, match=r"log\.jsonl: (\[Errno \d+\] )?(No space left|File too large).*make room"):
        finetune(rare, rows, folder/"m", quiet=True)
    widen()
    assert result(finetune(rare, rows, folder/"m", quiet=True)) == stopped[1]


def test_a_disk_that_is_full_at_the_end_publishes_nothing(narrow, short, rows, stopped):
    folder, fill, widen = narrow
    shutil.copytree(stopped[0], folder/"m.work")
    fill(3000, 8192)
    with pytest.raises(OSError, match=r"m: .*; what was saved before is kept: if the disk is full make room"):
        finetune(short, rows, folder/"m", quiet=True)
    assert not (folder/"m").exists() and len(list((folder/"m.work").glob("checkpoint-*/whole"))) == 2
    widen()
    assert result(finetune(short, rows, folder/"m", quiet=True)) == stopped[1]
    assert [p.name for p in folder.iterdir()] == ["m"]


# -- torn files -------------------------------------------------------------------------------------------------------

def halve(path): os.truncate(path, path.stat().st_size // 2)


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth",
                                  "trainer_state.json", "whole"])
def test_a_torn_checkpoint_does_not_count(name, short, rows, stopped, tmp_path):
    shutil.copytree(stopped[0], tmp_path/"m.work")
    halve(tmp_path/"m.work"/"checkpoint-15"/name)
    with pytest.warns(UserWarning, match=f"checkpoint-15: torn: {name}; the run goes on from before"):
        assert result(finetune(short, rows, tmp_path/"m", quiet=True)) == stopped[1]


def test_without_a_whole_checkpoint_training_begins_again(short, rows, stopped, tmp_path):
    shutil.copytree(stopped[0], tmp_path/"m.work")
    halve(tmp_path/"m.work"/"checkpoint-15"/"optimizer.pt")
    (tmp_path/"m.work"/"checkpoint-14"/"trainer_state.json").unlink()
    with pytest.warns(UserWarning) as seen:
        assert result(finetune(short, rows, tmp_path/"m", quiet=True)) == stopped[1]
    said = " ".join(str(w.message) for w in seen)
    assert "checkpoint-14: torn: trainer_state.json" in said and "checkpoint-15: torn: optimizer.pt" in said


@pytest.mark.parametrize("size", [None, 0, 30])
def test_checkpoints_that_nobody_knows_whose_they_are(size, short, rows, stopped, tmp_path):
    shutil.copytree(stopped[0], tmp_path/"m.work")
    own = tmp_path/"m.work"/"run.json"
    if size is None: own.unlink()
    else: os.truncate(own, size)
    with pytest.raises(ValueError, match=r"run\.json: missing or torn .* delete this one to start again"):
        finetune(short, rows, tmp_path/"m", quiet=True)


@pytest.mark.parametrize("ending", ["parquet", "jsonl"])
@pytest.mark.parametrize("left", [0, 0.5, None])
def test_torn_rows(ending, left, job, rows, tmp_path):
    path = tmp_path/f"some.{ending}"
    rows.to_parquet(path) if ending == "parquet" else rows.to_json(path)
    if left is None: path.unlink()
    else: os.truncate(path, int(path.stat().st_size * left))
    with pytest.raises(OSError, match=rf"some\.{ending}: .*; the rows cannot be read: write them again"):
        z1.training.finetune.read_job(job("torn", rows=str(path)))


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
def test_a_torn_base(name, short, rows, tmp_path):
    shutil.copytree(short.base, tmp_path/"base")
    halve(tmp_path/"base"/name)
    with pytest.raises(OSError, match=f"base/{name}: .*; the base is torn: download or copy it again"):
        finetune(replace(short, base=str(tmp_path/"base")), rows, tmp_path/"m", quiet=True)
    assert [p.name for p in tmp_path.iterdir()] == ["base"]


# -- changes between a kill and the next start ------------------------------------------------------------------------

def with_other_weights(base):
    from safetensors.torch import load_file, save_file
    weights = load_file(base/"model.safetensors")
    next(iter(weights.values())).view(-1)[7] += 1e-3
    save_file(weights, base/"model.safetensors", metadata={"format": "pt"})


def test_a_changed_job_is_refused(short, rows, stopped, tmp_path, monkeypatch):
    shutil.copytree(short.base, tmp_path/"base")
    config = replace(short, base=str(tmp_path/"base"))
    work = until_published(config, rows, tmp_path/"m", monkeypatch)
    before = {p: p.read_bytes() for p in work.rglob("*") if p.is_file()}
    def refused(message, config=config, rows=rows):
        with pytest.raises(ValueError, match=rf"m\.work: belongs to another run: .*{message}"):
            finetune(config, rows, tmp_path/"m", quiet=True)
        assert before == {p: p.read_bytes() for p in work.rglob("*") if p.is_file()}
    refused("learning_rate was 0.01 and is 0.02", replace(config, learning_rate=0.02))
    refused("seed was 42 and is 43", replace(config, seed=43))
    refused("packing was 'none' and is 'bfd'", replace(config, packing="bfd"))
    refused("data was", rows=Dataset.from_list([{"question": "?", "response": "7"}, *rows.to_list()[1:]]))
    refused("data was", rows=rows.select([1, 0, *range(2, len(rows))]))
    original = (tmp_path/"base"/"model.safetensors").read_bytes()
    with_other_weights(tmp_path/"base")
    refused("weights was")
    (tmp_path/"base"/"model.safetensors").write_bytes(original)
    assert result(finetune(config, rows, tmp_path/"m", quiet=True)) == stopped[1]
    with_other_weights(tmp_path/"base")
    with pytest.raises(ValueError, match=r"m: belongs to another run: .*weights was"):
        finetune(config, rows, tmp_path/"m", quiet=True)


def test_a_kill_between_publishing_and_clearing_leaves_nothing(short, rows, stopped, tmp_path, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(Stopped):
        patch.setattr(z1.training.finetune, "clear_checkpoints", stop)
        finetune(short, rows, tmp_path/"m", quiet=True)
    assert result(tmp_path/"m") == stopped[1] and (tmp_path/"m.work").exists()
    stamp = (tmp_path/"m"/"model.safetensors").stat().st_mtime_ns
    finetune(short, rows, tmp_path/"m", quiet=True)
    assert [p.name for p in tmp_path.iterdir()] == ["m"], "the checkpoints are deleted"
    assert (tmp_path/"m"/"model.safetensors").stat().st_mtime_ns == stamp, "and the model is the one that was there"


@pytest.mark.parametrize("first, then", [(2, 1), (1, 2)])
def test_another_number_of_processes_is_refused(first, then, warm, job):
    run = Run(job(f"from-{first}-to-{then}"))
    started = warm(run.job, first)
    while not run.reached() and not ended(started, 0.01): pass
    kill(started)
    said, at = run.job.with_suffix(".said"), run.reached()
    said.unlink()
    assert ended(warm(run.job, then), 60) and f"processes was {first} and is {then}" in said.read_text()
    assert run.reached() == at > 0 and not run.folder.exists()

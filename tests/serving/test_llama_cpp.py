"llama.cpp's own server, where there is one: exact windows through it, and what it ends at."
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from z1.engines.request import Request, Sampling
from z1.policies import SwitchPenalty
from z1.serving.endpoint import EndpointEngine
from z1.serving.llama_cpp import llama_server
from z1.turns import read_tokenizer, render
from z1.window import HINT, HardCut, ShiftedWindow

MODELS = Path(os.environ.get("Z1_MODELS", "nowhere"))
GGUF = next(iter(sorted(MODELS.glob("*0.5b-instruct*.gguf"))), None)
FOLDER = MODELS/"Qwen2.5-Coder-0.5B-Instruct"
real = pytest.mark.skipif(not (shutil.which("llama-server") and GGUF and FOLDER.exists()),
                          reason="needs llama-server on the PATH, and in $Z1_MODELS the 0.5B as .gguf and as a folder")


@pytest.fixture(scope="module")
def url():
    with llama_server(GGUF, 2, 256, "-t", "1", "--no-warmup") as url: yield url


def outputs(engine, requests, sampling=Sampling()):
    found = dict(engine.generate(requests, sampling, progress=False))
    return [found[i] for i in range(len(requests))]


@real
def test_windows_and_ends_are_exact(url):
    engine = EndpointEngine(url, FOLDER)
    assert (engine.mode, engine.context) == ("llama.cpp", 256)
    tokenizer, eos = engine.tokenizer, engine.eos_ids
    prompt, hint = render(tokenizer, "Say hi."), tuple(tokenizer.encode(HINT, add_special_tokens=False))
    free, cut, forced = outputs(engine, [Request(prompt, policy) for policy in (
        HardCut(24, eos), HardCut(5, eos), ShiftedWindow(4, hint, eos, 6))])
    assert free[-1] in eos and len(free) < 24                       # the end of the turn is among the ids
    assert cut == free[:5] and forced[:4] == free[:4] and forced[4:4 + len(hint)] == hint and len(forced) <= 10 + len(hint)
    assert engine.info()["servers"] and engine.info()["model"] == GGUF.stem

    never = HardCut(len(free) + 6, eos_ids=(free[2],))              # an end that the server knows by its text at most
    assert outputs(engine, [Request(prompt, never)]) == [free[:3]]
    beyond = HardCut(len(free) + 2, eos_ids=(5,))                   # a policy for which the turn's end is an id like any
    [ids] = outputs(engine, [Request(prompt, beyond)])
    assert ids[:len(free)] == free and len(ids) == len(free) + 2


@real
def test_penalties_and_seeds(url):
    engine = EndpointEngine(url, FOLDER)
    prompt = render(engine.tokenizer, "Say hi.")
    plain = HardCut(8, engine.eos_ids)
    [free] = outputs(engine, [Request(prompt, plain)])
    [kept] = outputs(engine, [Request(prompt, SwitchPenalty(plain, (free[1],), 1000.0, 100))])
    assert free[1] not in kept
    request, warm = Request(prompt, plain, seed=3), Sampling(temperature=1.5)
    assert outputs(engine, [request], warm) == outputs(engine, [request], warm)
    assert len({outputs(engine, [replace(request, seed=s)], warm)[0] for s in range(4)}) > 1

"What all tests share: hypothesis draws the same examples every time, the slowest file begins first, and one way to a browser."
import shutil
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("z1", deadline=None, derandomize=True)
settings.load_profile("z1")

SLOW = ["test_real_model", "test_smoke", "test_paper", "test_vllm", "test_served", "test_bring_your_own", "test_faults"]  # minutes each; two workers take a file at a time


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: SLOW.index(item.path.stem) if item.path.stem in SLOW else len(SLOW))


@pytest.fixture(scope="module")
def plain():
    "The engine that others are compared with, on a trained nano model."
    import torch
    from z1.engines.engine import TransformersEngine
    torch.set_num_threads(1)
    return TransformersEngine.from_pretrained(Path(__file__).parents[1]/"data"/"models"/"nano"/"z1-s0", device="cpu")


@pytest.fixture(scope="module")
def browser():
    "Headless Chromium, as the system has it."
    sync = pytest.importorskip("playwright.sync_api")
    if not (found := shutil.which("chromium")): pytest.fail("chromium is missing: `make .venv/chromium` installs it")
    with sync.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser
        browser.close()

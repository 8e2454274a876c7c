"What all tests share: hypothesis draws the same examples every time, and the slowest file begins first."
from hypothesis import settings

settings.register_profile("z1", deadline=None, derandomize=True)
settings.load_profile("z1")

SLOW = ["test_smoke", "test_vllm_engine", "test_served"]  # minutes each; two workers take a file at a time


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: SLOW.index(item.path.stem) if item.path.stem in SLOW else len(SLOW))

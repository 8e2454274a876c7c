"What all tests share: hypothesis draws the same examples every time, and the slow end-to-end test runs last."
from hypothesis import settings

settings.register_profile("z1", deadline=None, derandomize=True)
settings.load_profile("z1")


def pytest_configure(config):
    config.addinivalue_line("markers", "last: runs after everything else, because it takes minutes")


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: item.get_closest_marker("last") is not None)

"The pages show what the code made: their tables are the files in figures/, the example's output is its own, links lead somewhere."
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT/"README.md").read_text()
PAGES = [ROOT/"README.md", ROOT/"CONTRIBUTING.md", *sorted((ROOT/"nbs"/"experiments").glob("*/README.md"))]
TABLES = re.compile(r"<!-- begin (\S+) -->\n(.*?)<!-- end \1 -->", re.S)


def name(path):
    return str(path.relative_to(ROOT))


def test_some_pages_show_computed_tables():
    assert {name(p) for p in PAGES if TABLES.search(p.read_text())} >= {"README.md", "nbs/experiments/nano/README.md"}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_tables_are_the_computed_ones(page):
    for table, text in TABLES.findall(page.read_text()):
        assert text.strip() == (ROOT/table).read_text().strip(), f"{table} changed: copy it again"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_and_pictures_exist(page):
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        if "://" not in target: assert (page.parent/target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_make_targets_and_notebooks_exist(page):
    text, makefile = page.read_text(), (ROOT/"Makefile").read_text()
    commands = "\n".join(a or b for a, b in re.findall(r"```sh\n(.*?)```|`(make [^`]*)`", text, re.S))
    for target in re.findall(r"(?<![\w-])make ([a-z]+)", commands): assert re.search(rf"^{target}:", makefile, re.M), target
    for notebook in re.findall(r"nbs/[\w/]+\.ipynb", text): assert (ROOT/notebook).exists(), notebook


def test_the_readme_is_two_screens_at_most():
    assert len(README.splitlines()) <= 130


def test_the_examples_output_is_what_it_prints(capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    [(example, shown)] = re.findall(r"```python\n(.*?)```\n\n```\n(.*?)```", README, re.S)
    exec(example, {})
    assert capsys.readouterr().out == shown
    assert [line.split()[:2] for line in shown.splitlines()] == [["16", "cut"], ["32", "cut"], ["128", "ended"]]

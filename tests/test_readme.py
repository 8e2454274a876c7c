"The README shows what the code made: its tables are the files in figures/, its example runs, its links lead somewhere."
import re
from pathlib import Path


ROOT = Path(__file__).parent.parent
README = (ROOT/"README.md").read_text()


def test_tables_are_the_computed_ones():
    blocks = re.findall(r"<!-- begin (\S+) -->\n(.*?)<!-- end \1 -->", README, re.S)
    assert blocks, "the README shows no computed table"
    for name, text in blocks: assert text.strip() == (ROOT/name).read_text().strip(), f"{name} changed: copy it again"


def test_links_and_pictures_exist():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        if "://" not in target: assert (ROOT/target).exists(), target


def test_make_targets_exist():
    makefile = (ROOT/"Makefile").read_text()
    for target in re.findall(r"make ([a-z]+)", README): assert re.search(rf"^{target}:", makefile, re.M), target


def test_example_runs(capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    [example] = [code for code in re.findall(r"```python\n(.*?)```", README, re.S) if "ShiftedWindow" in code]
    exec(example, {})
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["16", "32", "128"]
    assert "cut" in lines[0] and "ended by itself" in lines[-1]

"The web site: everything is on it, every link leads somewhere, and it needs nobody else's server."
import ast
import importlib
import inspect
import json
import re
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from test_gates import MACHINE, MODULES, dotted
from running import ROOT, shell

SITE = ROOT/"_docs"
NOTEBOOKS = sorted(p for p in (ROOT/"nbs").rglob("*.ipynb") if ".ipynb_checkpoints" not in p.parts)


class Page(HTMLParser):
    "What a page holds: its anchors, its links, those of its navigation, what it loads, its words."
    def __init__(self, path):
        super().__init__()
        self.path, self.ids, self.links, self.menu, self.loads, self.images, self.words = path, set(), set(), set(), set(), [], []
        self.feed(path.read_text(encoding="utf-8"))
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.ids |= {found.get("id"), found.get("name")}
        self.links |= {found[a] for a in ("href", "src") if a in found}
        if "md-nav__link" in found.get("class", "") and "href" in found: self.menu.add(found["href"])
        if "src" in found or tag == "link" and found.get("rel") not in ("canonical", "prev", "next"): self.loads.add(found.get("src") or found["href"])
        if tag == "img": self.images.append(found)

    def handle_data(self, data): self.words.append(data)

    def target(self, link):
        "The file that a link leads to."
        path = unquote(urlsplit(link).path)
        found = (self.path.parent/path).resolve() if path else self.path
        return found/"index.html" if found.is_dir() else found


@pytest.fixture(scope="module")
def pages():
    "The site as `make docs` builds it, unless it is up to date; no page for a missing one, which has no place of its own."
    done = subprocess.run(["make", "-o", ".venv/ready", "docs"], cwd=ROOT, env=shell(), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return {p: Page(p) for p in sorted(SITE.rglob("*.html")) if p != SITE/"404.html"}


def page_of(source):
    "Where a file of nbs/ is shown."
    return SITE/source.relative_to(ROOT/"nbs").with_suffix(".html")


def api_page(module):
    return SITE/"api"/f"{dotted(module)}.html"


def public(module):
    "The names that a module exports."
    [names] = re.findall(r"^__all__ = (\[.*?\])", module.read_text(encoding="utf-8"), re.S | re.M)
    return ast.literal_eval(names)


def test_the_navigation_holds_every_notebook_and_module(pages):
    menu = {page.target(link) for page in pages.values() for link in page.menu}
    assert {*map(page_of, NOTEBOOKS), *map(api_page, MODULES)} <= menu


def test_the_start_page_is_the_tour(pages):
    assert "How should a reasoning model spend its tokens?" in pages[SITE/"index.html"].text


def test_every_public_definition_has_its_place(pages):
    missing = {dotted(m): lost for m in MODULES if (lost := set(public(m)) - pages[api_page(m)].ids)}
    assert missing == {}


def commented(module):
    "Every comment beside a parameter of a module's public functions and classes, as nbdev reads them."
    docments = pytest.importorskip("fastcore.docments").docments
    loaded = importlib.import_module(f"z1.{dotted(module)}")
    for name in public(module):
        found = getattr(loaded, name)
        if getattr(found, "__module__", loaded.__name__) != loaded.__name__: continue  # brought from another module
        methods = [m for n, m in vars(found).items() if n[0] != "_" and inspect.isfunction(m)] if inspect.isclass(found) else []
        for definition in [f for f in (found, *methods) if inspect.isfunction(f) or inspect.isclass(f)]:
            yield from (str(text) for text in docments(definition).values() if text)


@pytest.mark.parametrize("module", MODULES, ids=dotted)
def test_comments_beside_parameters_are_shown(pages, module):
    def plain(text): return re.sub(r"[`\s]", "", text)
    text = plain(pages[api_page(module)].text)
    assert [c for c in commented(module) if not all(plain(line) in text for line in c.splitlines())] == []


def test_links_lead_somewhere(pages):
    lost = []
    for page in pages.values():
        for link in page.links:
            if urlsplit(link).scheme: continue
            target, anchor = page.target(link), unquote(urlsplit(link).fragment)
            there = target.is_file() and (not anchor or target not in pages or anchor in pages[target].ids)
            if not there or SITE not in target.parents: lost.append(f"{page.path.relative_to(SITE)}: {link}")
    assert lost == []


def test_nothing_is_loaded_from_elsewhere(pages):
    assert {link for page in pages.values() for link in page.loads if urlsplit(link).scheme not in ("", "data")} == set()


def test_committed_pictures_are_shown(pages):
    for path in NOTEBOOKS:
        outputs = [o for c in json.loads(path.read_text(encoding="utf-8"))["cells"] for o in c.get("outputs", ())]
        drawn = sum("image/png" in o.get("data", ()) for o in outputs)
        assert sum("/images/" in f"/{i['src']}" for i in pages[page_of(path)].images) == drawn, path.stem


def test_pictures_have_words(pages):
    assert [(page.path.stem, i["src"]) for page in pages.values() for i in page.images if "alt" not in i] == []


def test_formulas_are_drawn_without_scripts(pages):
    texts = {p: p.read_text(encoding="utf-8") for p in pages}
    assert [p.stem for p, text in texts.items() if 'class="arithmatex"' in text] == []
    assert "<math" in texts[SITE/"07_measure"/"04_metrics.html"]


def test_no_path_of_anybodys_machine(pages):
    for path in [*pages, SITE/"search"/"search_index.json"]:
        text = path.read_text(encoding="utf-8")
        assert str(ROOT) not in text and not MACHINE.search(re.sub(r"<[^>]*>", "", text)), path.relative_to(SITE)


def test_words_are_found(pages):
    found = json.loads((SITE/"search"/"search_index.json").read_text(encoding="utf-8"))["docs"]
    indexed = {entry["location"].partition("#")[0] or "index.html" for entry in found}
    assert {p.relative_to(SITE).as_posix() for p in [*map(page_of, NOTEBOOKS), *map(api_page, MODULES)]} <= indexed
    assert any("overthought" in entry["text"] for entry in found if entry["location"].startswith("01_window.html"))

"""Pages and navigation for mkdocs: notebooks with the outputs they were committed with, READMEs, tables, and an API page a module.

Nothing is executed. Where a page is follows from its file: nbs/01_window.ipynb is 01_window.html, figures/x.md is figures/x.html,
z1/engines/batch.py is api/engines.batch.html. Links lead from file to file; here they are turned to the pages.
"""
import base64, hashlib, json, os, re
from html import escape, unescape
from itertools import groupby
from pathlib import Path

import api
from latex2mathml.converter import convert
from markdown import markdown
from mkdocs.structure.files import File
from mkdocs.structure.nav import Link

from z1.house import imported, is_result, module_files

ROOT = Path(__file__).resolve().parents[1]
PARTS = {"The idea to a curve": range(8), "The workshop": range(8, 100)}  # the floors of the house
outputs, images, carried = [], {}, set()  # what cells have put out, as HTML; its pictures; files that pages link to


# --- where things are --------------------------------------------------------------------------------------------------

def listing(*patterns):
    "Files of the repository by pattern, as paths from its root."
    found = [p.relative_to(ROOT) for pattern in patterns for p in sorted(ROOT.glob(pattern))]
    return [p.as_posix() for p in found if not any(part.startswith(".") for part in p.parts)]


TOUR, LAB_BOOK = "nbs/index.ipynb", "nbs/experiments/LOG.md"
ABOUT = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"]
SCHEMA = "site/window/README.md"
CHAPTERS = sorted(listing("nbs/[0-9]*.ipynb", "nbs/[0-9]*/*.ipynb"))
TUTORIALS = listing("nbs/tutorials/*.ipynb")
EXPERIMENTS = sorted(listing("nbs/experiments/*/README.md", "nbs/experiments/*/*.ipynb"))
TABLES = listing("figures/*.md")
MODULES = {name: path.as_posix() for name, path in module_files(ROOT).items()}


def place(path):
    "The page that shows a file of the repository."
    if path in MODULES.values(): return f"api/{path.removeprefix('z1/').removesuffix('.py').replace('/', '.')}.md"
    if path == "README.md": return "readme.md"
    if path == SCHEMA: return "window/schema.md"  # beside a page of its own, window/index.html
    return re.sub(r"\.ipynb$", ".md", path.removeprefix("nbs/"))


PLACES = {path: place(path) for path in [TOUR, LAB_BOOK, *ABOUT, SCHEMA, *CHAPTERS, *TUTORIALS, *EXPERIMENTS, *TABLES, *MODULES.values()]}


def link(path, page):
    "The link from a page to what shows a file, which is the file itself if no page does; None if there is no such file."
    if (ROOT/path).is_dir(): path = next((p for p in (f"{path}/README.md", f"{path}/index.ipynb") if p in PLACES), path)
    if not (ROOT/path).is_file(): return None
    if path not in PLACES and not path.startswith("site/"): carried.add(path)
    return os.path.relpath(PLACES.get(path, path.removeprefix("site/")), os.path.dirname(page) or ".")


def outside_code(text, change):
    "Markdown, changed wherever it is no code."
    parts = re.split(r"(^```.*?^```|`[^`\n]*`)", text, flags=re.S | re.M)
    return "".join(p if i % 2 else change(p) for i, p in enumerate(parts))


def relinked(text, source):
    "Markdown whose links lead to pages instead of files."
    def moved(match):
        target, _, anchor = match[1].partition("#")
        if "://" in target or not target: return match[0]
        found = link(os.path.normpath(os.path.join(os.path.dirname(source), target)), PLACES[source])
        return match[0] if found is None else f"]({found}{'#' * bool(anchor)}{anchor})"
    return outside_code(text, lambda part: re.sub(r"\]\(([^)\s]+)\)", moved, part))


# --- notebooks, texts and modules as Markdown ----------------------------------------------------------------------------

def shown(output, page):
    "An output of a cell as HTML."
    data = {kind: "".join(value) for kind, value in output.get("data", {"text/plain": output.get("text", "")}).items()}
    if "image/png" in data:
        image = base64.b64decode(data["image/png"])
        name = f"images/{hashlib.sha256(image).hexdigest()[:16]}.png"
        images[name] = image
        return f'<img alt="drawn by the code above" loading="lazy" src="{os.path.relpath(name, os.path.dirname(page) or ".")}">'
    if "text/html" in data:
        html = re.sub(r"<style scoped>.*?</style>", "", data["text/html"], flags=re.S)
        return html.replace('<table border="1" class="dataframe">', "<table>")
    if "text/markdown" in data:  # a report: its links lead to files of a run that is over, its headings are none of the page
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", data["text/markdown"])
        return markdown(re.sub(r"^#+ (.*)", r"**\1**", text, flags=re.M), extensions=["tables"])
    text = re.sub(r"\x1b\[[\d;]*m", "", data["text/plain"]).rstrip()
    return f"<pre><code>{escape(text)}</code></pre>" if text else ""


def shown_outputs(cell, page):
    "What a cell has put out, kept aside until the page is HTML."
    html = "".join(shown(output, page) for output in cell["outputs"] if is_result(output))
    if not html: return ""
    outputs.append(f'<div class="output" data-search-exclude>{html}</div>')
    return f'<div data-output="{len(outputs) - 1}"></div>'


def shown_code(cell, module):
    "A cell's code without nbdev's directives, under the module that it is exported to."
    source = "".join(cell["source"])
    code = re.sub(r"^#\|.*\n?", "", source, flags=re.M).strip("\n")
    if not code.strip() or re.search(r"^#\|\s*hide", source, re.M): return ""
    ticks = "`" * max(3, 1 + max(map(len, re.findall("`+", code)), default=0))
    title = f' title="{module}"' if re.search(r"^#\|\s*export", source, re.M) else ""
    return f"{ticks} {{.python{title}}}\n{code}\n{ticks}"


def notebook_page(source):
    "A notebook with its outputs; a chapter links to its module."
    page, module = PLACES[source], EXPORTS.get(source)
    parts = []
    for cell in json.loads((ROOT/source).read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] == "markdown": parts.append(relinked("".join(cell["source"]), source))
        elif cell["cell_type"] == "code": parts += [shown_code(cell, module), shown_outputs(cell, page)]
    if module: parts.insert(1, f"What it defines, at a glance: [`{name_of(module)}`]({link(module, page)}).")
    return "\n\n".join(filter(None, parts))


def text_page(source):
    "A page of Markdown; a table without a heading is called by its first bold words."
    text = relinked((ROOT/source).read_text(encoding="utf-8"), source)
    bold = re.match(r"\*\*(.*?)\.?\*\*", text)
    return f"# {bold[1]}\n\n{text}" if bold else text


def chapter_of(module):
    "The notebook that a module is exported from."
    [found] = re.findall(r"File to edit: (\S+\.ipynb)", (ROOT/module).read_text(encoding="utf-8"))
    return os.path.normpath(os.path.join(os.path.dirname(module), found))


def name_of(module): return next(name for name, path in MODULES.items() if path == module)


def number(chapter):
    "6.4 for nbs/06_engines/04_engine.ipynb."
    return ".".join(str(int(part[:2])) for part in chapter.split("/")[1:])


EXPORTS = {chapter_of(module): module for module in MODULES.values()}


def module_page(module):
    "The API of a module; a door says what it opens."
    page, text, chapter = PLACES[module], (ROOT/module).read_text(encoding="utf-8"), chapter_of(module)
    intro = f"{api.description(text)} Explained, with examples, in [chapter {number(chapter)}]({link(chapter, page)})."
    body = "\n\n".join(api.definitions(text))
    if not body:
        opened = [name for name in dict.fromkeys(imported(text, "z1")) if name in MODULES]
        body = "A door: what it offers is defined in " + ", ".join(f"[`{n}`]({link(MODULES[n], page)})" for n in opened) + "."
    return f"# `{name_of(module)}`\n\n{intro}\n\n{body}"


def api_page():
    "All modules in a table."
    rows = [f"| [`{name}`]({link(path, 'api/index.md')}) | {api.description((ROOT/path).read_text(encoding='utf-8'))} |"
            for name, path in sorted(MODULES.items(), key=lambda item: chapter_of(item[1]))]
    return "# API\n\nEvery module in the order of its chapter.\n\n| module | what it is |\n| --- | --- |\n" + "\n".join(rows)


# --- what mkdocs calls -----------------------------------------------------------------------------------------------------

def folders(paths, title, label=lambda path: None):
    "Pages by the folder of their files, as navigation."
    for folder, group in groupby(paths, os.path.dirname):
        pages = [{label(path): PLACES[path]} if label(path) else PLACES[path] for path in group]
        yield from [{title(folder): pages}] if title(folder) else pages


def navigation():
    "From the listing of the folders."
    def chapter_title(path): return f"{number(path)} {Path(path).stem.partition('_')[2].replace('_', ' ')}"
    def folder_title(folder): return "" if folder == "nbs" else chapter_title(folder)
    def floor(path): return int(number(path).split(".")[0])
    parts = [{part: [*folders([c for c in CHAPTERS if floor(c) in floors], folder_title, chapter_title)]} for part, floors in PARTS.items()]
    modules = sorted(MODULES.values(), key=chapter_of)
    return [{"The tour": ["index.md", *({Path(p).stem.capitalize(): PLACES[p]} for p in ABOUT)]}, {"The window, to touch": [{"Its data": PLACES[SCHEMA]}]}, *parts,
            {"Tutorials": [PLACES[p] for p in TUTORIALS]},
            {"Experiments": [{"Lab book": PLACES[LAB_BOOK]}, *folders(EXPERIMENTS, os.path.basename), {"Tables": [PLACES[p] for p in TABLES]}]},
            {"API": ["api/index.md", *folders(modules, lambda f: os.path.basename(f) if f != "z1" else "", lambda path: Path(path).stem)]}]


def on_files(files, config):
    "The pages, written; the pictures and files that they show; the navigation."
    pages = {PLACES[p]: notebook_page(p) if p.endswith(".ipynb") else module_page(p) if p.endswith(".py") else text_page(p) for p in PLACES}
    for uri, content in [*pages.items(), ("api/index.md", api_page()), *images.items()]:
        files.append(File.generated(config, uri, content=content))
    for path in sorted(carried): files.append(File.generated(config, path, abs_src_path=str(ROOT/path)))
    config.nav = navigation()
    return files


def on_nav(nav, config, files):
    "The page that mkdocs has not made comes first in its section."
    section = next(item for item in nav.items if item.title == "The window, to touch")
    section.children.insert(0, Link("To the page", "window/index.html"))
    return nav


def on_page_content(html, page, config, files):
    "Outputs come back; formulas become MathML, which browsers draw by themselves."
    html = re.sub(r'<div data-output="(\d+)"></div>', lambda m: outputs[int(m[1])], html)
    return re.sub(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', lambda m: convert(unescape(m[2]), display="block" if m[1] == "div" else "inline"), html, flags=re.S)

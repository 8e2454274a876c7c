"""A module as a page: every public definition with its signature, docstring and the comments beside its parameters. Nothing is imported."""
import ast, io, re, tokenize
from html import escape
from inspect import cleandoc
from textwrap import dedent, indent

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
LONG = 12  # lines of a constant that are shown


class Code:
    "A module's text, its syntax tree and its comments."
    def __init__(self, text):
        self.lines, self.tree = text.splitlines(), ast.parse(text)
        self.bare, self.comments = list(self.lines), {}
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            if token.type != tokenize.COMMENT: continue
            line, column = token.start
            self.comments[line] = token.string.lstrip("# ")
            self.bare[line - 1] = self.lines[line - 1][:column].rstrip()

    def head(self, node):
        "The lines of a definition before its body, decorators included, comments left out."
        first, body = min(n.lineno for n in [node, *node.decorator_list]), node.body[0]
        lines = self.bare[first - 1:body.lineno]
        lines[-1] = lines[-1][:body.col_offset]
        return dedent("\n".join(filter(str.strip, lines))).rstrip().removesuffix(":")

    def rows(self, found):
        "Parameters that share a line share its comment: (names, types, defaults, comment)."
        lines = {}
        for name, kind, default, line in found: lines.setdefault(line, []).append((name, kind, default))
        return [(*zip(*row), self.comments.get(line, "")) for line, row in sorted(lines.items())]


def exported(tree):
    "The public names of a module."
    [names] = [n.value for n in tree.body if isinstance(n, ast.Assign) and getattr(n.targets[0], "id", "") == "__all__"]
    return ast.literal_eval(names)


def names_of(node):
    "What a statement defines, or brings from another module."
    if isinstance(node, (*FUNCTIONS, ast.ClassDef)): return [node.name]
    if isinstance(node, ast.ImportFrom): return [alias.asname or alias.name for alias in node.names]
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return [n.id for target in targets for n in ast.walk(target) if isinstance(n, ast.Name)]


def arguments(node):
    "(name, annotation, default, line) of a function's arguments and of what it returns; `self` is left out."
    args, seen = node.args, set()
    normal = args.posonlyargs + args.args
    pairs = [*zip(normal, [None] * (len(normal) - len(args.defaults)) + args.defaults), (args.vararg, None),
             *zip(args.kwonlyargs, args.kw_defaults), (args.kwarg, None)]
    for arg, default in pairs:
        if arg is None or arg.arg in ("self", "cls"): continue
        seen.add((default or arg).end_lineno)
        yield "*" * (arg is args.vararg) + "**" * (arg is args.kwarg) + arg.arg, arg.annotation, default, (default or arg).end_lineno
    last = max(node.lineno, node.returns.end_lineno if node.returns else 0)
    if last not in seen: yield "returns", node.returns, None, last


def fields(node):
    "(name, annotation, default, line) of a class's public fields."
    for n in node.body:
        names = [name for name in (names_of(n) if isinstance(n, (ast.Assign, ast.AnnAssign)) else []) if name[0] != "_"]
        if names: yield ", ".join(names), getattr(n, "annotation", None), n.value, n.end_lineno


def prose(text):
    "A docstring or a comment as Markdown: code in backticks is all that has a meaning."
    parts = re.split(r"(`[^`]*`)", cleandoc(text or ""))
    return "".join(p if i % 2 else re.sub(r"([\\*_$\[\]{}#])", r"\\\1", escape(p, quote=False)) for i, p in enumerate(parts))


def cell(text):
    "Prose that stays inside its column."
    return prose(text).replace("|", "&#124;").replace("\n", " ")


def codes(nodes):
    "Expressions, or names, as code in a column."
    texts = [n if isinstance(n, str) else ast.unparse(n) for n in nodes if n is not None]
    return ", ".join(f"<code>{escape(t, quote=False).replace('|', '&#124;').replace('*', '&#42;').replace('_', '&#95;')}</code>" for t in texts)


def kinds(nodes):
    "Types as code, each once."
    return codes(dict.fromkeys(ast.unparse(n) for n in nodes if n is not None))


def table(rows):
    "Parameters with their types, defaults and comments; a column that would be empty is left out."
    columns = [("parameter", codes, 0), ("type", kinds, 1), ("default", codes, 2), ("meaning", cell, 3)]
    columns = [(title, write, i) for title, write, i in columns if any(write(row[i]) for row in rows)]
    lines = [[title for title, *_ in columns], ["---"] * len(columns), *([write(row[i]) for _, write, i in columns] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def definition(code, node, level, anchor):
    "A function or a class under a heading of its own, its methods below it."
    heads, rows = [code.head(node)], []
    if isinstance(node, ast.ClassDef):
        rows = [row for row in code.rows(fields(node)) if row[1][0] is not None or row[3]]
        for init in (n for n in node.body if isinstance(n, FUNCTIONS) and n.name == "__init__"):
            heads.append(indent(code.head(init), "    "))
            rows += [row for row in code.rows(arguments(init)) if row[0][0] != "returns"]
    else:
        rows = [row for row in code.rows(arguments(node)) if row[0] != ("returns",) or row[3]]
        if not any(row[3] for row in rows): rows = []
    yield f"{'#' * level} `{anchor}` {{ #{anchor} }}"
    yield f"```python\n{chr(10).join(heads)}\n```"
    yield prose(ast.get_docstring(node))
    if rows: yield table(rows)
    if isinstance(node, ast.ClassDef):
        for method in node.body:
            if isinstance(method, FUNCTIONS) and method.name[0] != "_": yield from definition(code, method, level + 1, f"{anchor}.{method.name}")


def constant(code, node, names):
    "A constant, or an import, as it is written; a long one is cut."
    lines = code.lines[node.lineno - 1:node.end_lineno]
    yield "\n".join(f"## `{name}` {{ #{name} }}\n" for name in names)
    text = "\n".join(lines[:LONG] + ["..."] * (len(lines) > LONG))
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))  # a text with a fence in it needs a longer one
    yield f"{fence}python\n{text}\n{fence}"


def definitions(text):
    "The public definitions of a module, in its order, as Markdown."
    code = Code(text)
    public = set(exported(code.tree))
    for node in code.tree.body:
        if names := [name for name in names_of(node) if name in public]:
            yield from definition(code, node, 2, names[0]) if hasattr(node, "body") else constant(code, node, names)


def description(text):
    "What a module says about itself."
    return prose(ast.get_docstring(ast.parse(text)))

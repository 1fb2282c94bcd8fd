"""Notebooks call and never define, carry no output and no path; committed files name no machine."""

from __future__ import annotations

import ast
import json
import re
import subprocess
from pathlib import Path

import pytest

from xedge.reports.notebooks import Notebook

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
MOST_LINES = 20
LONGEST_DEFAULTS = {"duration_s": 30, "replications": 5}  # what `make test` and nbval run must be quick
PLACE = re.compile(r"/|~|\.{1,2}/|[A-Za-z]:\\|[\w./-]+\.(csv|onnx|pt|json|ya?ml|html|png|svg|parquet|ipynb)$")


def source(cell):
    return "".join(cell["source"])


def tree(cell):
    """Return the parsed code of a cell; a line of IPython's own (%magic, !command, ?help) is left out."""
    lines = [line for line in source(cell).splitlines() if not line.lstrip().startswith(("%", "!", "?"))]
    return compile("\n".join(lines), "cell", "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


def code_cells(notebook):
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def is_parameters(cell):
    return "parameters" in cell["metadata"].get("tags", [])


def defines(notebook):
    """Yield what a cell defines that belongs in the library."""
    for cell in code_cells(notebook):
        for node in ast.walk(tree(cell)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                yield f"defines {node.name}"
            elif isinstance(node, ast.Assign | ast.AnnAssign | ast.NamedExpr) and isinstance(node.value, ast.Lambda):
                yield "names a lambda"


def remains(notebook):
    """Yield what a run left behind."""
    for cell in code_cells(notebook):
        if cell["outputs"]:
            yield "has outputs"
        if cell["execution_count"] is not None:
            yield "has an execution count"
        if set(cell["metadata"]) - {"tags"}:
            yield f"has metadata {sorted(cell['metadata'])}"
    if set(notebook["metadata"]) - {"kernelspec", "language_info"}:
        yield f"has metadata {sorted(notebook['metadata'])}"
    if notebook["metadata"].get("kernelspec", {}).get("name") != "python3":
        yield "is not for the kernel python3"


def shape(notebook):
    """Yield what is not as a reader expects it: heading, parameters, short cells."""
    cells = notebook["cells"]
    if cells[0]["cell_type"] != "markdown" or not re.match(r"# \S", source(cells[0])):
        yield "does not begin with a heading"
    if sum(map(is_parameters, cells)) != 1:
        yield "needs exactly one cell tagged parameters"
    if not is_parameters((code_cells(notebook) or [{"metadata": {}}])[0]):
        yield "does not begin its code with the parameters"
    for cell in code_cells(notebook):
        if not 0 < len(source(cell).strip().splitlines()) <= MOST_LINES:
            yield f"has a cell of {len(source(cell).splitlines())} lines"


def conclusion(notebook):
    """Yield what is missing from the last section: its title, and code that uses what the run found."""
    cells = notebook["cells"]
    titles = [k for k, cell in enumerate(cells) if cell["cell_type"] == "markdown" and source(cell).startswith("#")]
    if not titles or "conclusion" not in source(cells[titles[-1]]).splitlines()[0].lower():
        yield "does not end with a conclusion"
        return
    before = [cell for cell in cells[: titles[-1]] if cell["cell_type"] == "code" and not is_parameters(cell)]
    stored = {n.id for cell in before for n in names(cell) if isinstance(n.ctx, ast.Store)}
    last = [cell for cell in cells[titles[-1] :] if cell["cell_type"] == "code"]
    if not any(n.id in stored for cell in last for n in names(cell) if isinstance(n.ctx, ast.Load)):
        yield "concludes without the results of the run"


def names(cell):
    return [node for node in ast.walk(tree(cell)) if isinstance(node, ast.Name)]


def paths(notebook):
    """Yield the strings that say where something lies: that is for the library to find."""
    for cell in code_cells(notebook):
        nodes = list(ast.walk(tree(cell)))
        joined = [node.right for node in nodes if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div)]
        for node in nodes:
            text = node.value if isinstance(node, ast.Constant) and node not in joined else None
            if isinstance(text, str) and PLACE.match(text):
                yield f"names the path {text!r}"


RULES = [defines, remains, shape, conclusion, paths]


def test_notebooks_are_found():
    assert NOTEBOOKS


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_notebook_keeps_to_the_style(path, rule):
    assert list(rule(json.loads(path.read_text("utf-8")))) == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_notebook_parameters_are_explained_and_quick_by_default(path):
    found = Notebook.open(path).parameters
    assert found
    assert [p.name for p in found if not p.help] == []
    for p in found:
        assert p.name not in LONGEST_DEFAULTS or p.default <= LONGEST_DEFAULTS[p.name], p.name


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_notebook_checks_its_parameters_right_after_them(path):
    cells = code_cells(json.loads(path.read_text("utf-8")))
    assert "check_parameters(globals())" in source(cells[1])


def code(text, *tags, **changes):
    metadata = {"tags": list(tags)} if tags else {}
    return {
        "cell_type": "code",
        "source": text.splitlines(keepends=True),
        "metadata": metadata,
        "outputs": [],
        "execution_count": None,
    } | changes


def prose(text):
    return {"cell_type": "markdown", "source": [text], "metadata": {}}


def notebook(*cells, kernel="python3"):
    return {"cells": list(cells), "metadata": {"kernelspec": {"name": kernel}}}


TITLE, PARAMETERS, RUN = prose("# Title"), code("n: int = 3  # how many", "parameters"), code("found = run(n)")
END = [prose("## Conclusion"), code("found.conclusion()")]


def middle(*cells):
    return notebook(TITLE, PARAMETERS, RUN, *cells, *END)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
@pytest.mark.parametrize(
    "fine",
    [
        middle(),
        middle(code("%matplotlib inline\nawait found.ready()"), prose("and `def f():`")),
        middle(
            code("found.sort(key=lambda row: row[0])\nfound.save(reports_dir() / 'x.csv')\nt = 'ml/inference/request'")
        ),
    ],
)
def test_style_rule_accepts_a_good_notebook(rule, fine):
    assert list(rule(fine)) == []


@pytest.mark.parametrize(
    ("rule", "bad", "says"),
    [
        (defines, middle(code("def f():\n    return 1")), "defines f"),
        (defines, middle(code("if n:\n    async def f(): ...")), "defines f"),
        (defines, middle(code("class A: ...")), "defines A"),
        (defines, middle(code("f = lambda x: x")), "lambda"),
        (remains, middle(code("1", outputs=[{"output_type": "stream"}])), "outputs"),
        (remains, middle(code("1", execution_count=3)), "execution count"),
        (remains, middle(code("1", metadata={"papermill": {}})), "metadata"),
        (remains, notebook(TITLE, PARAMETERS, RUN, *END, kernel="venv"), "python3"),
        (shape, notebook(PARAMETERS, TITLE, RUN, *END), "heading"),
        (shape, notebook(prose("Title"), PARAMETERS, RUN, *END), "heading"),
        (shape, notebook(TITLE, RUN, *END), "exactly one"),
        (shape, middle(PARAMETERS), "exactly one"),
        (shape, notebook(TITLE, RUN, PARAMETERS, *END), "begin its code"),
        (shape, middle(code("n\n" * 21)), "21 lines"),
        (shape, middle(code("")), "0 lines"),
        (conclusion, notebook(TITLE, PARAMETERS, RUN), "end with a conclusion"),
        (conclusion, notebook(TITLE, PARAMETERS, RUN, *END, prose("## And then")), "end with a conclusion"),
        (conclusion, notebook(TITLE, PARAMETERS, RUN, prose("## Conclusion\nThe edge wins.")), "without the results"),
        (conclusion, notebook(TITLE, PARAMETERS, RUN, END[0], code("print(n, 'edge wins')")), "without the results"),
        *((paths, middle(code(f"open({path!r})")), "path") for path in ("../x", "./x", "~/x", "/etc/x", "C:\\x")),
        *((paths, middle(code(f"read({path!r})")), "path") for path in ("x.csv", "models/net.onnx", "a-b.yaml")),
    ],
)
def test_style_rule_finds_a_bad_notebook(rule, bad, says):
    assert any(says in fault for fault in rule(bad))


# Assembled, so that this file holds none of them.
MACHINE_PATHS = [
    "/".join(parts) for parts in (("", "work", ""), ("", "root", ""), ("", "tmp", "dev"), ("", "home", ""))
]
HOSTS = [
    ".".join(parts) for parts in (("pythonhosted", "org"), ("anaconda", "org"), ("repo", "maven"), ("r-project", "org"))
]
REGISTRIES = [
    *HOSTS,
    "/".join((".".join(("pypi", "org")), "simple")),
    "-".join(("index", "url")),
    "-".join(("find", "links")),
]


def committed():
    """Return the files that git has, or would take: all of them, whatever they are called."""
    command = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return [path for name in listed.split("\0") if name and (path := ROOT / name).is_file()]


def test_committed_files_name_no_machine_path_and_no_package_registry():
    files = committed()
    assert Path(__file__).resolve() in files
    found = []
    for path in files:
        data = path.read_bytes()
        if b"\0" not in data[:8192]:
            text = data.decode("utf-8")
            found += [f"{path.relative_to(ROOT)}: {word}" for word in (*MACHINE_PATHS, *REGISTRIES) if word in text]
    assert found == []


def test_committed_notebooks_are_those_in_the_notebooks_folder():
    assert sorted(path for path in committed() if path.suffix == ".ipynb") == NOTEBOOKS

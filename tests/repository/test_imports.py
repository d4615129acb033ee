"""The shape of the code, as docs/design.md describes it."""

import ast
import re
import subprocess
import sys

import pytest
from conftest import ROOT

LIGHT = (
    *("aelab.errors", "aelab.metric_info", "aelab.config", "aelab.system"),
    *("aelab.cli", "aelab.distributed.cluster", "aelab.runs.directory"),
)


def imports_of(path):
    """The dotted names that a file imports."""
    imported = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            imported.add(node.module)
            imported |= {f"{node.module}.{alias.name}" for alias in node.names}
    return imported


def file_of(module):
    """The file of a dotted name, None if it is not a module of the repository."""
    base = ROOT / module.replace(".", "/")
    for path in (base.with_suffix(".py"), base / "__init__.py"):
        if path.exists():
            return path.relative_to(ROOT).as_posix()
    return None


@pytest.fixture(scope="module")
def modules():
    """Each file of aelab, scripts and tools, with the files it imports."""
    found = {}
    for folder in ("aelab", "scripts", "tools"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            names = imports_of(path)
            if folder != "aelab":
                names |= {f"{folder}.{name}" for name in names}
            files = {file_of(name) for name in names} - {None}
            found[path.relative_to(ROOT).as_posix()] = files
    return found


@pytest.fixture(scope="module")
def layers():
    """The line of docs/design.md: each name with the number of its layer."""
    text = (ROOT / "docs" / "design.md").read_text()
    (line,) = re.findall(r"^    (errors, .* < .*)$", text, re.MULTILINE)
    return {
        name: number
        for number, names in enumerate(line.split(" < "))
        for name in names.split(", ")
    }


def unit(path):
    """The name in the line that a file belongs to; "" for the package itself."""
    first, second, *_ = (*path.removesuffix(".py").split("/"), "")
    if first != "aelab":
        return first
    return "" if second == "__init__" else second


def test_every_folder_is_in_the_line_and_in_the_table(modules, layers):
    text = (ROOT / "docs" / "design.md").read_text()
    rows = re.findall(r"^\| `([\w/.]+)` \|", text, re.MULTILINE)
    rows = {unit(row.rstrip("/")) for row in rows} - {"tests"}
    assert {unit(path) for path in modules} - {""} == layers.keys() == rows


def test_imports_run_in_one_direction(modules, layers):
    for path, imported in modules.items():
        for other in imported:
            if unit(path) in ("", unit(other)) or unit(other) == "":
                continue
            assert layers[unit(other)] < layers[unit(path)], f"{path} imports {other}"


def has_cycle(edges):
    """True if a graph, {node: nodes}, has a cycle."""
    edges = {node: set(others) - {node} for node, others in edges.items()}
    while edges:
        ends = {node for node, others in edges.items() if not others & edges.keys()}
        if not ends:
            return True
        edges = {node: others for node, others in edges.items() if node not in ends}
    return False


def test_there_are_no_import_cycles(modules):
    """Package files are left out: importing a module always imports its package."""
    files = {p: o for p, o in modules.items() if not p.endswith("__init__.py")}
    assert not has_cycle(files)


def test_applications_use_each_other_in_one_direction(modules):
    apps = {}
    for path, imported in modules.items():
        if path.startswith("aelab/apps/") and path.count("/") > 2:
            used = {o.split("/")[2] for o in imported if o.startswith("aelab/apps/")}
            apps.setdefault(path.split("/")[2], set()).update(used)
    assert len(apps) >= 4
    assert not has_cycle(apps)


def test_a_cycle_is_noticed():
    assert has_cycle({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}})
    assert not has_cycle({"a": {"b"}, "b": {"c"}, "c": set()})


def test_only_the_command_line_knows_absl():
    knowing = {
        path.relative_to(ROOT).as_posix().split("/")[1]
        for path in (ROOT / "aelab").rglob("*.py")
        if "absl" in {name.split(".")[0] for name in imports_of(path)}
    }
    assert knowing == {"cli"}


def test_modules_that_answer_at_once_do_not_import_tensorflow():
    packages = [name for name in LIGHT if (ROOT / name.replace(".", "/")).is_dir()]
    names = [
        *LIGHT,
        *(
            f"{package}.{path.stem}"
            for package in packages
            for path in (ROOT / package.replace(".", "/")).glob("[!_]*.py")
        ),
    ]
    code = f"import sys, {', '.join(names)}; print(*sys.modules)"
    command = [sys.executable, "-c", code]
    loaded = subprocess.check_output(command, text=True, timeout=60, cwd=ROOT).split()
    assert set(names) <= set(loaded)
    assert not {"tensorflow", "keras"} & set(loaded)


def test_every_module_has_its_test_file(modules):
    """Applications and models have one for their folder: they are tested together."""
    for path in modules:
        *folders, name = path.removesuffix(".py").split("/")
        if name.startswith("__") or path == "aelab/errors.py" or folders[0] != "aelab":
            continue
        tests = ROOT.joinpath("tests", *folders[1:])
        if folders[1:2] in (["apps"], ["models"]):
            assert list(tests.glob("test_*.py")), path
        else:
            assert (tests / f"test_{name}.py").exists(), path


def test_no_two_test_files_share_a_name():
    """pytest imports a test file by its name, without its folder."""
    names = [path.name for path in (ROOT / "tests").rglob("*.py")]
    assert len(names) == len(set(names))

"""The shape of the code: imports run one way, in the order of docs/design.md."""

import ast
import re

from conftest import ROOT


def modules():
    """Each module of the package by its path, with the aelab modules it imports."""
    found = {}
    for path in sorted((ROOT / "aelab").rglob("*.py")):
        imported = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{path}: relative import"
                imported.add(node.module)
                imported |= {f"{node.module}.{alias.name}" for alias in node.names}
        found[path.relative_to(ROOT).as_posix()] = imported
    return found


def path_of(module):
    """The file of a dotted name, None if it is no module of the package."""
    base = ROOT / module.replace(".", "/")
    for path in (base.with_suffix(".py"), base / "__init__.py"):
        if path.exists():
            return path.relative_to(ROOT).as_posix()
    return None


def documented_order():
    text = (ROOT / "docs" / "design.md").read_text()
    return re.findall(r"^\| `(aelab/[\w/.*]+)`", text, re.MULTILINE)


def place(path, order):
    """Where the table lists a file, by its own name or its package's."""
    candidates = [
        n for n in order if path == n or (n[-1] == "/" and path.startswith(n))
    ]
    assert candidates, f"docs/design.md does not list {path}"
    return order.index(max(candidates, key=len))


def test_every_module_stands_in_the_table_and_imports_only_earlier_ones():
    order = documented_order()
    assert len(order) == len(set(order)) > 15
    for path, imported in modules().items():
        if re.fullmatch(r"aelab/(\w+/)?__init__\.py", path):
            continue
        for name in imported:
            other = path_of(name) if name.split(".")[0] == "aelab" else None
            if other is None or re.fullmatch(r"aelab/(\w+/)?__init__\.py", other):
                continue
            same_package = place(other, order) == place(path, order)
            assert same_package or place(other, order) < place(path, order), (
                f"{path} imports {other}, which docs/design.md lists later"
            )


def test_only_the_flags_module_knows_absl():
    knowing = [
        p
        for p, names in modules().items()
        if "absl" in {n.split(".")[0] for n in names}
    ]
    assert knowing == ["aelab/cli/flags.py"]


def test_the_core_does_not_know_its_applications():
    for application in ("evaluation", "denoising", "compression", "report"):
        for path, names in modules().items():
            if not path.startswith("aelab/apps/"):
                known = [n for n in names if n.startswith(f"aelab.apps.{application}")]
                assert not known, path


def test_every_module_has_its_test_file():
    for path in modules():
        *folders, name = path.removeprefix("aelab/").removesuffix(".py").split("/")
        if folders[:1] in (["models"], ["apps"]) or name in (
            "__init__",
            "errors",
            "png",
        ):
            continue
        assert ROOT.joinpath("tests", *folders, f"test_{name}.py").exists(), path

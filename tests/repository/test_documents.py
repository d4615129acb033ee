"""Every link, path, command and flag in the documents exists."""

import contextlib
import functools
import importlib
import io
import re
from configparser import ConfigParser
from pathlib import Path

import pytest
from conftest import ROOT
from markdown_it import MarkdownIt

DOCUMENTS = [ROOT / f"{name}.md" for name in ("README", "BUILD", "CONTRIBUTING")]
DOCUMENTS += sorted((ROOT / "docs").glob("*.md"))
FOLDERS = (".ci", "aelab", "configs", "docs", "scripts", "tests", "tools")
FILES = {
    path.relative_to(ROOT).as_posix()
    for pattern in ("*.*", *FOLDERS, *(f"{folder}/**/*" for folder in FOLDERS))
    for path in ROOT.glob(pattern)
}
# Written by a run or a study, or by the reader of CONTRIBUTING.md.
NOT_IN_THE_REPOSITORY = {"run.flags", "table.md", "aelab/models/tiny.py"}
# Flags of other programs that the documents name without their program.
FOREIGN_FLAGS = {"signal"}
PLACEHOLDER = re.compile(r"[<>{}$]|\b(DIR|FILE|FOLDER|NAME)\b")
SCRIPT = re.compile(r"(?:scripts|tools)/(\w+)\.py\b([^|;&#\n]*)")
FLAG = re.compile(r"(?<![\w-])--(\w+)(?![\w-])")


def parse(text):
    """The tokens of a document, with the children of inline tokens."""
    for token in MarkdownIt("commonmark").enable("table").parse(text):
        yield token
        yield from token.children or []


def code_of(text):
    """Inline code and the lines of code blocks, continued lines joined."""
    for token in parse(text):
        if token.type == "code_inline":
            yield token.content
        elif token.type == "code_block" or (token.type == "fence" and not token.info):
            yield from re.sub(r"\\\n\s*", " ", token.content).splitlines()


def anchors_of(text):
    """The anchors that GitHub makes of the headings."""
    anchors, is_heading = [], False
    for token in parse(text):
        if token.type == "inline" and is_heading:
            title = "".join(child.content for child in token.children)
            anchor = re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
            count = sum(
                re.fullmatch(rf"{anchor}(-\d+)?", a) is not None for a in anchors
            )
            anchors.append(f"{anchor}-{count}" if count else anchor)
        is_heading = token.type == "heading_open"
    return anchors


def link_problems(text, path):
    """Relative links and images whose file or heading does not exist."""
    for token in parse(text):
        target = token.attrs.get("href") or token.attrs.get("src") or ""
        if not target or re.match(r"\w+:", target):
            continue
        name, _, anchor = target.partition("#")
        file = path.parent / name if name else path
        if not file.exists():
            yield f"link to {target}: there is no such file"
        elif anchor:
            content = file.read_text() if name else text
            if anchor not in anchors_of(content):
                yield f"link to {target}: there is no such heading"


def exists(word):
    """True if `word` is, or ends, the path of a file or folder; it may have a `*`."""
    word = word.rstrip("/")
    if "*" in word:
        return any(ROOT.glob(word)) or any(ROOT.glob(f"*/{word}"))
    return any(file == word or file.endswith(f"/{word}") for file in FILES)


def path_problems(text, path):
    """Words of code that look like a path and are not one."""
    for code in code_of(text):
        for word in re.split(r"[\s,=\[\]'\"()]+", code):
            word = re.sub(r":.*", "", word).removeprefix("./").rstrip(".")
            is_path = word.startswith(tuple(f"{folder}/" for folder in FOLDERS))
            is_path |= re.fullmatch(r"[\w/*.-]+\.(py|md|flags|cfg)", word) is not None
            if not is_path or word.startswith(("..", "-")) or PLACEHOLDER.search(word):
                continue
            if word not in NOT_IN_THE_REPOSITORY and not exists(word):
                yield f"path {word}: there is no such file"


@functools.cache
def flags_of(script):
    """The flags in the help of a script; none if there is no such script."""
    if not any(
        file in FILES for file in (f"scripts/{script}.py", f"tools/{script}.py")
    ):
        return frozenset()
    output = io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.suppress(SystemExit):
        importlib.import_module(script).main([f"{script}.py", "--help"])
    return frozenset(FLAG.findall(output.getvalue())) | {"help"}


@functools.cache
def all_flags():
    scripts = [Path(file).stem for file in FILES if SCRIPT.fullmatch(file)]
    return frozenset().union(*map(flags_of, scripts))


def is_flag(name, known):
    return name in known or name.removeprefix("no") in known


def flag_problems(text, path):
    """Flags that their script does not have, or no script if none is named."""
    for code in code_of(text):
        for script, arguments in SCRIPT.findall(code):
            for name in FLAG.findall(arguments):
                if not is_flag(name, flags_of(script)):
                    yield f"{script}.py has no flag --{name}"
        if code.startswith("--"):
            for name in FLAG.findall(code):
                if not is_flag(name, all_flags() | FOREIGN_FLAGS):
                    yield f"no script has a flag --{name}"


def target_problems(text, path):
    """Targets that the Makefile does not have."""
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for code in code_of(text):
        for name in re.findall(r"^\s*make ([a-z]\w*)", code):
            if name not in targets:
                yield f"make {name}: there is no such target"


def extra_problems(text, path):
    """Extras that setup.cfg does not have."""
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg")
    for code in code_of(text):
        for names in re.findall(r"\.\[([\w,]+)\]", code):
            for name in names.split(","):
                if name not in setup["options.extras_require"]:
                    yield f"extra {name}: setup.cfg has no such extra"


CHECKS = [link_problems, path_problems, flag_problems, target_problems, extra_problems]


def new_path_problems(text):
    """New paths in the changelog's table that are no file, folder or module."""
    _, table = text.split("| 0.1.0 | 0.2.0 |\n|---|---|\n")
    for row in table.partition("\n\n")[0].splitlines():
        _, old, new, _ = row.split("|")
        names = re.findall("`(.*?)`", new)
        if "the same names in" in new:
            names = [
                old.replace("aelab", names[0]) for old in re.findall("`(.*?)`", old)
            ]
        for name in names:
            base = name.replace(".", "/")
            if not any((ROOT / path).exists() for path in (name, base, f"{base}.py")):
                yield f"{name}: there is no such file or module"


def test_links_and_new_paths_in_the_changelog_exist():
    path = ROOT / "CHANGELOG.md"
    text = path.read_text()
    assert list(link_problems(text, path)) == []
    assert list(new_path_problems(text)) == []
    wrong = text.replace("`aelab.cli`", "`aelab.nonesuch`")
    assert list(new_path_problems(wrong)) == [
        "aelab.nonesuch: there is no such file or module"
    ]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.stem)
def test_a_document_names_only_what_exists(path, check):
    assert list(check(path.read_text(), path)) == []


@pytest.mark.parametrize(
    ("mistake", "problem"),
    [
        ("[a](BUILD.md#nonesuch)", "no such heading"),
        ("[a](nonesuch.md)", "no such file"),
        ("![a](docs/images/nonesuch.png)", "no such file"),
        ("[a](#nonesuch)\n\n# None such\n\n# Nonesuch 1", "no such heading"),
        ("`aelab/nonesuch.py`", "aelab/nonesuch.py"),
        ("`nonesuch.flags`", "nonesuch.flags"),
        ("    python scripts/train.py --flagfile=configs/nonesuch.flags", "configs/"),
        ("    python scripts/nonesuch.py", "scripts/nonesuch.py"),
        ("    python scripts/train.py \\\n      --nonesuch=3", "train.py has no flag"),
        ("`tools/soak.py --epochs=3`", "soak.py has no flag --epochs"),
        ("`--nonesuch=3`", "no script has a flag --nonesuch"),
        ("`make nonesuch`", "make nonesuch"),
        ("`pip install -e '.[eval,nonesuch]'`", "extra nonesuch"),
    ],
)
def test_a_mistake_is_reported(mistake, problem):
    path = ROOT / "README.md"
    (found,) = [line for check in CHECKS for line in check(mistake, path)]
    assert problem in found


def test_a_correct_document_has_no_problems():
    text = """# A `code` heading, twice

# A `code` heading, twice

[a](#a-code-heading-twice-1) [b](BUILD.md#several-devices) [c](https://nonesuch.md#d)
`train.py` `configs/*.flags` `aelab/models/` `--learning_rate=3e-3`
`tests/<a>/test_b.py`

    make test && .venv/bin/python scripts/train.py --run_dir=runs/a --epochs=2
"""
    path = ROOT / "README.md"
    assert [line for check in CHECKS for line in check(text, path)] == []


def test_the_example_in_python_runs(runs):
    text = (ROOT / "docs" / "usage.md").read_text()
    (code,) = re.findall("```python\n(.*?)```", text, re.DOTALL)
    assert code.count('"runs/quickstart"') == 1
    names = {}
    exec(code.replace("runs/quickstart", str(runs / "denoiser")), names)
    assert names["output"].shape == names["images"].shape

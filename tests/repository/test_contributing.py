"""Everything that CONTRIBUTING.md adds, added as it says."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys

import pytest
from conftest import HAS_BFLOAT16, ROOT

# "In `TABLE` of `FILE`", "In `FILE`" or "A new file `FILE`", then the code.
BLOCK = re.compile(
    r"(?:In\s+(?:`(?P<table>\w+)`\s+of\s+)?|A new file\s+)`(?P<file>aelab/[\w/]+\.py)`"
    r"[^`]*?:\n\n```python\n(?P<code>.*?)```",
    re.DOTALL | re.IGNORECASE,
)
FIRST_FIELD_AFTER = "    seed: int = field("
RUN = (
    *("--dataset=gradients", "--model=tiny", "--tiny_filters=4", "--train_steps=6"),
    *("--corruption=hot_pixels", "--hot_pixel_rate=0.2", "--flip", "--batch_size=20"),
    *("--loss=huber", "--huber_delta=0.2", "--code_variance_weight=1e-3"),
    *("--optimizer_args=beta_1=0.8,epsilon=1e-6", "--learning_rate=0.01"),
)


def recipes():
    """Each heading under "Adding things", with its text."""
    page = (ROOT / "CONTRIBUTING.md").read_text()
    (text,) = re.findall("^## Adding things$(.*?)^## ", page, re.DOTALL | re.MULTILINE)
    _, *sections = text.split("\n### ")
    return dict(section.split("\n", 1) for section in sections)


def lines_besides_the_body(code):
    """The number of lines that are not blank and not in the body of a function."""
    lines = dict(enumerate(code.splitlines(), 1))
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.FunctionDef):
            for number in range(node.body[0].lineno, node.end_lineno + 1):
                del lines[number]
    return sum(line.strip() != "" for line in lines.values())


def add(folder, block):
    """Adds a block of code where it says."""
    path, table, code = folder / block["file"], block["table"], block["code"]
    text = path.read_text() if path.exists() else ""
    if table == "Config":
        assert text.count(FIRST_FIELD_AFTER) == 1
        text = text.replace(FIRST_FIELD_AFTER, code + FIRST_FIELD_AFTER)
    elif table:
        head, body = text.split(f"\n{table} = {{\n")
        text = f"{head}\n{table} = {{\n" + body.replace("\n}\n", f"\n{code}}}\n", 1)
    else:
        text = f"{text}\n\n{code}" if text else code
    path.write_text(text)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A copy of the repository with everything in CONTRIBUTING.md added."""
    folder = tmp_path_factory.mktemp("checkout")
    ignored = shutil.ignore_patterns("__pycache__")
    for name in ("aelab", "tests", "scripts", "docs"):
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    shutil.copy(ROOT / "setup.cfg", folder)
    for text in recipes().values():
        for block in BLOCK.finditer(text):
            add(folder, block)
    return folder


def run(checkout, *command):
    """Runs Python in the copy; a user's pytest options do not matter."""
    environment = {**os.environ, "PYTHONPATH": str(checkout), "PYTEST_ADDOPTS": ""}
    return subprocess.run(
        [sys.executable, *command],
        cwd=checkout,
        capture_output=True,
        text=True,
        env=environment,
    )


@pytest.mark.parametrize("name", recipes())
def test_a_recipe_needs_at_most_ten_lines_besides_the_function(name):
    text, count = recipes()[name], 0
    for block in BLOCK.finditer(text):
        code = block["code"]
        count += code.count("\n") if block["table"] else lines_besides_the_body(code)
    assert count <= 10


@pytest.mark.parametrize("name", recipes())
def test_a_recipe_is_tried(name):
    """Each of its blocks is added, or it has none and its flag is given."""
    text = recipes()[name]
    assert len(BLOCK.findall(text)) == text.count("```python")
    if "```" not in text:
        (flag,) = re.findall(r"`(--\w+=)", text)
        assert any(argument.startswith(flag) for argument in RUN)


# Runs the `main` of several scripts, so that TensorFlow is imported only once.
SCRIPTS = """
import importlib, json, sys
sys.path.insert(0, "scripts")
for script, *arguments in json.loads(sys.argv[1]):
    importlib.import_module(script).main([script, *arguments])
    print("done", script)
"""


@pytest.fixture(scope="module")
def output(checkout):
    """What training, evaluation and a report print, with everything that was added."""
    commands = [
        ["train", "--run_dir=run", *RUN],
        ["evaluate", "--run_dir=run", "--floors=false", "--checkpoint=latest"],
        ["report", "run", "--output=report.html"],
    ]
    found = run(checkout, "-c", SCRIPTS, json.dumps(commands))
    assert (found.returncode, found.stderr) == (0, "")
    return found.stdout


@pytest.mark.slow
def test_everything_that_was_added_trains(checkout, output):
    folder = checkout / "run"
    config = json.loads((folder / "config.json").read_text())
    assert (config["tiny_filters"], config["flip"]) == (4, True)
    *_, last = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    assert 0 < last["mae"] < 1
    names = {path.name.partition("-")[0] for path in (folder / "images").iterdir()}
    assert names == {"panel", "residuals"}


@pytest.mark.slow
def test_a_new_metric_is_in_the_table_and_a_new_panel_in_the_report(checkout, output):
    table = output.partition("done train")[2].partition("done evaluate")[0]
    assert "MAE" in table
    evaluation = json.loads((checkout / "run" / "evaluation.json").read_text())
    assert "mae" in evaluation["metrics"]
    page = (checkout / "report.html").read_text()
    assert "MAE" in page and "residuals" in page


@pytest.mark.slow
def test_a_new_field_is_refused_where_it_is_not_used(checkout):
    found = run(checkout, "scripts/train.py", "--run_dir=other", "--huber_delta=0.2")
    assert found.returncode == 2
    assert "--huber_delta=0.2 contradicts --loss=bce" in found.stderr


@pytest.mark.slow
def test_the_existing_tests_cover_new_entries(checkout):
    files = ["tests/models/test_models.py", "tests/test_metrics.py"]
    files += ["tests/data/test_corruptions.py", "tests/promises/test_replicas.py"]
    names = "huber or mae or hot_pixels or tiny and (test_models or one_device[tiny-2])"
    if not HAS_BFLOAT16:
        names = f"not bfloat16 and ({names})"
    command = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", names, *files]
    found = run(checkout, *command)
    assert found.returncode == 0, found.stdout
    (passed,) = re.findall(r"([0-9]+) passed", found.stdout)
    assert int(passed) >= 15
    assert "skipped" not in found.stdout

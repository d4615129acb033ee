"""CONTRIBUTING.md's new model, added as it says."""

import re
import shutil
import subprocess
import sys

import pytest
from conftest import ROOT


def put_before(path, line, new):
    """Adds a line to a file, before one that is there once."""
    text = path.read_text()
    assert text.count(line) == 1
    path.write_text(text.replace(line, f"{new}{line}"))


@pytest.fixture
def checkout(tmp_path):
    """A copy of the code with the new model in it."""
    for name in ("aelab", "tests"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, tmp_path / name, ignore=ignored)
    shutil.copy(ROOT / "setup.cfg", tmp_path)
    text = (ROOT / "CONTRIBUTING.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    models = tmp_path / "aelab" / "models"
    (models / "tiny.py").write_text(code)
    registry = models / "__init__.py"
    put_before(registry, "MODELS: ", "from aelab.models.tiny import build_tiny\n\n")
    put_before(registry, '    "dense": build_dense', '    "tiny": build_tiny,\n')
    config = tmp_path / "aelab" / "config" / "config.py"
    put_before(config, '"dense", "conv"', '"tiny", ')
    return tmp_path


@pytest.mark.slow
def test_the_tests_test_the_new_model_from_then_on(checkout):
    files = ["tests/models/test_models.py", "tests/promises/test_replicas.py"]
    # Of the many tests of several devices, one that trains.
    chosen = "tiny and (test_models or one_device[tiny-2])"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    found = subprocess.run(
        [*command, "-k", chosen, *files], cwd=checkout, capture_output=True, text=True
    )
    assert found.returncode == 0, found.stdout
    (passed,) = re.findall(r"([0-9]+) passed", found.stdout)
    assert int(passed) >= 10
    assert "skipped" not in found.stdout

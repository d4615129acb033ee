"""Some modules of the input work without TensorFlow, which takes seconds to import."""

import subprocess
import sys

from conftest import ROOT

MODULES = ("idx", "synthetic", "sketch", "find_pictures", "image_files", "pixels")


def test_these_modules_do_not_import_tensorflow():
    imports = "; ".join(f"import aelab.data.{module}" for module in MODULES)
    code = f"import sys; {imports}; sys.exit('tensorflow' in sys.modules)"
    process = subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=60)
    assert process.returncode == 0

import gzip
import os
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

from aelab.startup import start_tensorflow

LOGICAL_CPUS = 4
start_tensorflow(LOGICAL_CPUS)

# `make test` is the same each time; `pytest --hypothesis-profile=soak` is not.
_FUZZ = {
    "deadline": None,
    "database": None,
    "suppress_health_check": [HealthCheck.too_slow],
}
settings.register_profile("test", max_examples=50, derandomize=True, **_FUZZ)
settings.register_profile("soak", max_examples=300, derandomize=False, **_FUZZ)
settings.load_profile("test")

ROOT = Path(__file__).parents[1]
REAL_DATA = Path(
    os.environ.get("AELAB_REAL_DATA")
    or ROOT.parent / "shared" / "data" / "fashion-mnist-6k"
)

# A run of seconds, for what needs processes of its own.
SMALL_RUN = [
    "--model=dense",
    "--batch_size=64",
    "--train_examples=2000",
    "--eval_examples=300",
    "--noise_stddev=0.3",
]


def run_script(name, *arguments, env=None, timeout=300):
    """Runs scripts/NAME.py in a process of its own, as a user would."""
    command = [sys.executable, str(ROOT / "scripts" / f"{name}.py"), *arguments]
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=timeout,
        env={**os.environ, **(env or {})},
    )


def write_idx(path, array):
    """Writes uint8 `array` as an IDX file, gzipped if `path` ends in .gz."""
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    opener = gzip.open if str(path).endswith(".gz") else open
    with opener(path, "wb") as file:
        file.write(header + array.tobytes())


@pytest.fixture(scope="session")
def real_data():
    """The folder of real images, where the machine has it."""
    if not REAL_DATA.is_dir():
        pytest.skip("needs real images: set AELAB_REAL_DATA to their folder")
    return str(REAL_DATA)


@pytest.fixture
def idx_folder(tmp_path):
    """A small set in IDX files: 50 images to train, 21 to evaluate, 12 x 16."""
    folder = tmp_path / "data"
    folder.mkdir()
    generator = np.random.default_rng(0)
    for prefix, count in (("train", 50), ("t10k", 21)):
        images = generator.integers(0, 256, (count, 12, 16), dtype=np.uint8)
        labels = generator.integers(0, 10, count, dtype=np.uint8)
        write_idx(folder / f"{prefix}-images-idx3-ubyte.gz", images)
        write_idx(folder / f"{prefix}-labels-idx1-ubyte.gz", labels)
    return folder

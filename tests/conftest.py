import contextlib
import functools
import gzip
import io
import json
import os
import re
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from browser import Browser, find_program
from hypothesis import HealthCheck, settings
from processes import ROOT, Forked, path_of
from small_pictures import write_noisy

from aelab.config import FIELDS, Config
from aelab.system import files
from aelab.system.startup import start_tensorflow

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

REAL_DATA = Path(
    os.environ.get("AELAB_REAL_DATA")
    or ROOT.parent / "shared" / "data" / "fashion-mnist-6k"
)

# The numbers in which two equal runs differ.
TIMES = {"images_per_second", "input_wait"}

ISA_LIMIT = os.environ.get("ONEDNN_MAX_CPU_ISA", "all")
HAS_BFLOAT16 = ISA_LIMIT.lower().startswith(
    ("all", "default", "avx512", "avx10", "amx")
)

# The files that take longest come first, so that all test processes end at about the
# same time.
LONGEST = ("test_replicas.py", "test_multi_worker.py", "test_killed_runs.py")

# A run of seconds, for tests that need processes.
SMALL_RUN = [
    "--model=dense",
    "--batch_size=64",
    "--train_examples=400",
    "--eval_examples=300",
    "--noise_stddev=0.3",
]


def pytest_collection_modifyitems(items):
    """Puts the longest files first, and skips what would end the whole process."""
    items.sort(key=lambda item: item.path.name not in LONGEST)
    if not HAS_BFLOAT16:
        reason = f"with ONEDNN_MAX_CPU_ISA={ISA_LIMIT} TensorFlow crashes on bfloat16"
        for item in items:
            if "bfloat16" in item.nodeid:
                item.add_marker(pytest.mark.skip(reason))


def run_script(name, *arguments, env=None, timeout=300, cwd=None):
    """Runs NAME.py of scripts/ or tools/ in a process of its own, as a user would."""
    command = [sys.executable, str(path_of(name)), *arguments]
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=timeout,
        cwd=cwd,
        env={**os.environ, **(env or {})},
    )


def run_forked(name, *arguments, timeout=300, cwd=None, prepare=None):
    """The same in a forked process, for tests that do not test how a script starts.

    It takes four seconds less of processor time, see `processes`.
    """
    prepare = functools.partial(os.chdir, cwd) if cwd else prepare
    process = Forked(name, *arguments, prepare=prepare)
    texts = process.communicate(timeout)
    return subprocess.CompletedProcess(process.args, process.returncode, *texts)


def write_idx(path, array):
    """Writes uint8 `array` as an IDX file, gzipped if `path` ends in .gz."""
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    opener = gzip.open if str(path).endswith(".gz") else open
    with opener(path, "wb") as file:
        file.write(header + array.tobytes())


@contextlib.contextmanager
def tensorboard(logdir):
    """Starts TensorBoard on a folder; yields its address."""
    command = [sys.executable, "-m", "tensorboard.main", "--host=localhost", "--port=0"]
    command += [f"--logdir={logdir}", "--samples_per_plugin=images=100"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            for line in process.stderr:
                if match := re.search(r"http://localhost:\d+", line):
                    break
            else:
                pytest.fail("TensorBoard did not start")
            yield match[0]
            assert process.poll() is None, f"TensorBoard ended: {process.returncode}"
        finally:
            process.kill()


@pytest.fixture(scope="session")
def runs(tmp_path_factory):
    """A folder of two runs, `code` and `denoiser`.

    `denoiser` trained its last two epochs twice: it was stopped before the end.
    """
    from aelab.config import Config
    from aelab.runs import checkpoints
    from aelab.runs.directory import RunDirectory
    from aelab.training.run import train_and_evaluate

    folder = tmp_path_factory.mktemp("runs")
    fields = {"batch_size": 20, "train_examples": 40, "log_every_steps": 1}
    code = Config(model="dense", encoding_dim=7, epochs=3, eval_examples=110, **fields)
    train_and_evaluate(code, str(folder / "code"))
    denoiser = Config(noise_stddev=0.5, epochs=12, eval_examples=20, **fields)
    train_and_evaluate(denoiser, str(folder / "denoiser"))
    # As if it had been killed before its last two saves.
    for file in checkpoints.all_of(RunDirectory(str(folder / "denoiser")).latest)[:2]:
        os.remove(file)
    train_and_evaluate(denoiser, str(folder / "denoiser"))
    return folder


@pytest.fixture(scope="session")
def tensorboard_of_runs(runs):
    """The address of a TensorBoard that shows the folder `runs`."""
    with tensorboard(runs) as address:
        yield address


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """A headless Chromium, if the machine has one."""
    program = find_program()
    if program is None:
        pytest.skip("needs Chromium (Debian's package `chromium`)")
    with Browser(program, tmp_path_factory.mktemp("chromium")) as browser:
        yield browser


def metric_lines(run_dir, split=None):
    """The entries of a run's metrics.jsonl: of one split, or all."""
    lines = map(json.loads, (run_dir / "metrics.jsonl").read_text().splitlines())
    return [line for line in lines if split in (None, line["split"])]


@pytest.fixture
def own(tmp_path):
    """A folder of a few noisy color pictures, which a test may damage."""
    return write_noisy(tmp_path / "own")


@pytest.fixture(scope="session")
def real_data():
    """The folder of real images, if the machine has it."""
    if not REAL_DATA.is_dir():
        pytest.skip("needs real images: set AELAB_REAL_DATA to their folder")
    return str(REAL_DATA)


def write_idx_folder(folder):
    """Writes IDX files: 50 images of 12 x 16 pixels to train on, 21 to evaluate on."""
    folder.mkdir()
    generator = np.random.default_rng(0)
    for prefix, count in (("train", 50), ("t10k", 21)):
        images = generator.integers(0, 256, (count, 12, 16), dtype=np.uint8)
        labels = generator.integers(0, 10, count, dtype=np.uint8)
        write_idx(folder / f"{prefix}-images-idx3-ubyte.gz", images)
        write_idx(folder / f"{prefix}-labels-idx1-ubyte.gz", labels)
    return folder


@pytest.fixture(scope="session", params=sorted(FIELDS["model"].metadata["choices"]))
def any_run(request, tmp_path_factory):
    """The directory of a run of six steps, for each model. Only for reading."""
    from aelab.runs.directory import RunDirectory
    from aelab.training.run import train_and_evaluate

    path = tmp_path_factory.mktemp("run") / "run"
    config = Config(
        model=request.param,
        batch_size=8,
        train_steps=6,
        train_examples=40,
        eval_examples=9,
        learning_rate=0.01,
    )
    train_and_evaluate(config, str(path))
    return RunDirectory(str(path))


@pytest.fixture
def idx_folder(tmp_path):
    """A folder of IDX files, see `write_idx_folder`."""
    return write_idx_folder(tmp_path / "data")


@pytest.fixture
def failing_reads(monkeypatch):
    """`failing_reads(path, errno, times)`: so many reads of the file fail.

    By default all do. No time passes between attempts.
    """

    def fail(failing, number, times=10**6):
        left = [times]

        class Failing(io.FileIO):
            def read(self, size=-1):
                left[0] -= 1
                if left[0] >= 0:
                    raise OSError(number, os.strerror(number))
                return super().read(size)

        def open_failing(path, mode="r", **options):
            is_failing = str(path) == str(failing) and mode == "rb"
            return Failing(path) if is_failing else open(path, mode, **options)

        monkeypatch.setattr(files, "open", open_failing, raising=False)
        monkeypatch.setattr(files.time, "sleep", lambda seconds: None)

    return fail

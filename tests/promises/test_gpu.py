"""Runs on a GPU, in processes of their own, compared with runs on a CPU.

No other test uses a GPU. These are skipped where there is none.
AELAB_GPU_REPORT=FILE appends the measured differences to a file.
"""

import glob
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from conftest import ROOT, TIMES, metric_lines, run_script

from aelab.runs import checkpoints
from aelab.runs.directory import RunDirectory


def _has_gpu():
    """Looks for a GPU that the installed TensorFlow can use."""
    if not glob.glob("/dev/nvidia[0-9]*"):
        return False
    code = "import tensorflow as tf; print(tf.config.list_physical_devices('GPU'))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    return "GPU:0" in found.stdout


if not _has_gpu():
    pytest.skip("needs a GPU that TensorFlow can use", allow_module_level=True)

_NO_GPU = {"CUDA_VISIBLE_DEVICES": "-1"}
_NO_TF32 = {"NVIDIA_TF32_OVERRIDE": "0"}
_STEPS = 50
_RUN = [
    *("--batch_size=64", "--train_examples=640", "--eval_examples=100"),
    *(f"--train_steps={_STEPS}", "--optimizer=adam", "--learning_rate=0.001"),
    *("--noise_stddev=0.5", "--eval_every_epochs=1", "--log_every_steps=10"),
]


def _note(name, **values):
    """Prints measured values, and adds them to the report."""
    line = json.dumps({"test": name, **values})
    print(line)
    if path := os.environ.get("AELAB_GPU_REPORT"):
        with open(path, "a") as file:
            file.write(line + "\n")


@pytest.fixture(scope="module")
def train(tmp_path_factory):
    """`train(*flags, env)`: the directory of a finished run, which is trained once."""
    folder, made = tmp_path_factory.mktemp("gpu"), {}

    def run(*flags, env=None, again=0):
        key = (flags, tuple((env or {}).items()), again)
        if key not in made:
            path = folder / f"run{len(made)}"
            done = run_script("train", f"--run_dir={path}", *_RUN, *flags, env=env)
            assert done.returncode == 0, done.stderr
            made[key] = path
        return made[key]

    return run


def _arrays(run_dir):
    return checkpoints.load_newest(RunDirectory(str(run_dir)).latest)[1]


def _weights(run_dir):
    """All weights as one vector."""
    found = _arrays(run_dir)
    names = sorted(name for name in found if name.startswith("model/"))
    return np.concatenate([found[name].ravel().astype(np.float64) for name in names])


def _losses(run_dir, split="train"):
    return np.array([line["loss"] for line in metric_lines(run_dir, split)])


def _distance(one, other):
    return float(np.linalg.norm(one - other) / np.linalg.norm(other))


def _metrics(run_dir):
    lines = [*metric_lines(run_dir, "train"), *metric_lines(run_dir, "eval")]
    return [{k: v for k, v in line.items() if k not in TIMES} for line in lines]


def _differing(one, other):
    """Names of the arrays in which two runs differ in any bit."""
    a, b = _arrays(one), _arrays(other)
    assert a.keys() == b.keys()
    return [name for name in a if a[name].tobytes() != b[name].tobytes()]


def test_a_gpu_is_used_by_default_and_named(train):
    machine = json.loads((train("--model=dense") / "config.json").read_text())
    machine = machine["machine"]
    _note("machine", **machine)
    assert machine["devices"] == ["GPU:0"]
    assert machine["device_names"][0]


@pytest.mark.parametrize("jit", ["false", "true"])
@pytest.mark.parametrize("model", ["dense", "conv", "unet", "codec"])
def test_float32_agrees_with_a_cpu(train, model, jit):
    flags = (f"--model={model}", f"--jit_compile={jit}")
    gpu = train(*flags, env=_NO_TF32)
    cpu = train(f"--model={model}", env=_NO_GPU)
    losses = float(np.max(np.abs(_losses(gpu) / _losses(cpu) - 1)))
    weights = _distance(_weights(gpu), _weights(cpu))
    _note("cpu", model=model, jit=jit, losses=losses, weights=weights)
    assert losses < 1e-3
    assert weights < 1e-2


@pytest.mark.parametrize("jit", ["false", "true"])
@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize("model", ["dense", "conv"])
def test_lower_precision_reaches_the_same_loss(train, model, precision, jit):
    flags = (f"--model={model}", f"--jit_compile={jit}", f"--precision={precision}")
    gpu, cpu = train(*flags), train(f"--model={model}", env=_NO_GPU)
    losses = float(np.max(np.abs(_losses(gpu, "eval") / _losses(cpu, "eval") - 1)))
    _note("precision", model=model, precision=precision, jit=jit, losses=losses)
    assert losses < 0.02


@pytest.mark.parametrize("jit", ["false", "true"])
@pytest.mark.parametrize("model", ["dense", "conv", "unet"])
def test_the_same_command_gives_the_same_bits(train, model, jit):
    flags = (f"--model={model}", f"--jit_compile={jit}")
    names = _differing(train(*flags), train(*flags, again=1))
    _note("again", model=model, jit=jit, arrays_that_differ=len(names))
    assert not names


def test_steps_per_loop_changes_nothing(train):
    flags = ("--model=conv", "--jit_compile=false")
    one, many = (train(*flags, f"--steps_per_loop={n}") for n in (1, 7))
    assert not _differing(one, many)
    assert _metrics(one) == _metrics(many)


@pytest.mark.parametrize("jit", ["false", "true"])
def test_a_killed_run_resumes_to_the_same_bits(train, tmp_path, jit):
    flags = ["--model=conv", f"--jit_compile={jit}", "--checkpoint_every_steps=3"]
    whole = train(*flags)
    command = [sys.executable, str(ROOT / "scripts" / "train.py"), *_RUN, *flags]
    command.append(f"--run_dir={tmp_path / 'run'}")
    latest = tmp_path / "run" / "checkpoints" / "latest"
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None and not list(latest.glob("*[1-9]*")):
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    done = run_script("train", *command[2:])
    assert done.returncode == 0, done.stderr
    assert not _differing(whole, tmp_path / "run")
    assert _metrics(whole) == _metrics(tmp_path / "run")


def test_mirrored_over_one_gpu_agrees_with_single(train):
    single = train("--model=conv", "--jit_compile=false", env=_NO_TF32)
    mirrored = train("--model=conv", "--strategy=mirrored", env=_NO_TF32)
    distance = _distance(_weights(mirrored), _weights(single))
    _note("mirrored", weights=distance)
    assert distance < 1e-3


def test_an_infinite_loss_stops_the_run(tmp_path):
    flags = [*_RUN, "--model=dense", "--jit_compile=true", "--learning_rate=1e38"]
    flags.append("--optimizer=sgd")
    done = run_script("train", f"--run_dir={tmp_path / 'run'}", *flags)
    assert done.returncode == 1
    assert "not finite" in done.stderr


def test_a_folder_of_images_is_read(train, tmp_path):
    from PIL import Image

    generator = np.random.default_rng(0)
    for number in range(30):
        pixels = generator.integers(0, 256, (40, 50, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    flags = [*_RUN, "--model=conv", "--dataset=images", f"--data_dir={tmp_path}"]
    flags += ["--image_size=32", "--train_examples=0", "--eval_examples=0"]
    done = run_script("train", f"--run_dir={tmp_path / 'run'}", *flags)
    assert done.returncode == 0, done.stderr


def test_scripts_agree_with_a_cpu(train, tmp_path):
    run_dir = train("--model=conv", "--jit_compile=false", env=_NO_TF32)
    found = []
    for env in (_NO_TF32, _NO_GPU):
        done = run_script("evaluate", f"--run_dir={run_dir}", env=env)
        assert done.returncode == 0, done.stderr
        found.append(json.loads((run_dir / "evaluation.json").read_text())["metrics"])
    _note("evaluate", gpu=found[0], cpu=found[1])
    assert found[0] == pytest.approx(found[1], rel=1e-4)


def test_a_file_gives_the_same_images_on_a_cpu(train, tmp_path):
    pytest.importorskip("constriction")
    from PIL import Image

    run_dir = train("--model=codec", "--jit_compile=false", env=_NO_TF32)
    generator = np.random.default_rng(0)
    pictures = []
    for number in range(20):
        path = tmp_path / f"{number}.png"
        Image.fromarray(generator.integers(0, 256, (28, 28), np.uint8)).save(path)
        pictures.append(str(path))
    decoded = {}
    for name, env in (("gpu", {}), ("cpu", _NO_GPU)):
        output = f"--output={tmp_path / name}.aelab"
        done = run_script(
            "compress", f"--run_dir={run_dir}", *pictures, output, env=env
        )
        assert done.returncode == 0, done.stderr
        for other, other_env in (("gpu", {}), ("cpu", _NO_GPU)):
            folder = tmp_path / f"{name}-{other}"
            flags = [f"--run_dir={run_dir}", output.partition("=")[2]]
            done = run_script("decompress", *flags, f"--output={folder}", env=other_env)
            assert done.returncode == 0, done.stderr
            images = [np.asarray(Image.open(p)) for p in sorted(folder.glob("*.png"))]
            decoded[name, other] = np.stack(images).astype(int)
    for name in ("gpu", "cpu"):  # a file decodes to the same image on both
        differ = np.abs(decoded[name, "gpu"] - decoded[name, "cpu"])
        _note("codec", file=name, grey_levels=int(differ.max()))
        assert differ.max() <= 1


def test_memory_is_allocated_as_needed():
    """TensorFlow takes all of the card by default."""
    script = (
        "from aelab.system.startup import start_tensorflow; start_tensorflow()\n"
        "import subprocess, tensorflow as tf\n"
        "tf.reduce_sum(tf.ones([1024, 1024])).numpy()\n"
        "query = '--query-gpu=memory.used,memory.total'\n"
        "print(subprocess.check_output(['nvidia-smi', query, '--id=0', "
        "'--format=csv,noheader,nounits'], text=True))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    used, total = map(int, done.stdout.split(","))
    _note("memory", used=used, total=total)
    assert used < total / 2

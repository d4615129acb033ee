"""Files and folders may have any name, on the command line too.

Names that are not UTF-8 are printed escaped, and so are control characters.
"""

import os

import numpy as np
import pytest
from conftest import run_forked
from PIL import Image

from aelab.apps.compression import decompress
from aelab.apps.compression.compress import compress
from aelab.apps.evaluation import evaluate_run
from aelab.apps.report import write_report
from aelab.cli import CommandLine
from aelab.data.idx import read_idx
from aelab.runs.directory import RunDirectory
from aelab.training.run import train_and_evaluate

FOLDER = os.fsdecode(b"t\xe9l\xff")
NAME = os.fsdecode(b"a\xff\x1b[31m\n")
ESCAPED = r"a\udcff\x1b[31m\n"


def config_of(*words):
    """The configuration and the run directory of a command line of train.py."""
    cli = CommandLine("Trains.")
    cli.add_path("run_dir", "Folder.", "DIR")
    cli.add_config()
    values = cli.parse(["train.py", *words])
    return cli.config(), values.run_dir


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """A folder of pictures and a sub-folder, all of whose names are not UTF-8."""
    folder = tmp_path_factory.mktemp("names") / FOLDER
    (folder / FOLDER).mkdir(parents=True)
    generator = np.random.default_rng(0)
    for number in range(8):
        pixels = generator.integers(0, 256, (16, 16), np.uint8)
        Image.fromarray(pixels).save(folder / FOLDER / f"{NAME}{number}.png")
    return folder


def train(pictures, model):
    """Trains one step by a command line, and once more by its flagfile."""
    words = [f"--model={model}", "--dataset=images", f"--data_dir={pictures}"]
    words += ["--image_size=16", "--image_channels=1", "--batch_size=4"]
    words += ["--train_steps=1", "--noise_stddev=0.1"]
    config, run_dir = config_of(f"--run_dir={pictures.parent / model}\udcff", *words)
    train_and_evaluate(config, run_dir)
    flagfile = RunDirectory(run_dir).run_flags
    assert config_of(f"--flagfile={flagfile}") == (config, run_dir)
    train_and_evaluate(
        config_of(f"--flagfile={flagfile}", "--train_steps=2")[0], run_dir
    )
    return run_dir


def test_a_run_and_its_pictures(pictures, capfd):
    """Training, resuming, evaluation, report and denoising."""
    run_dir = train(pictures, "conv")
    assert evaluate_run(run_dir, "latest", noise_stddevs=()).data.as_in_training
    assert os.listdir(os.path.join(run_dir, "tensorboard", "train"))
    assert capfd.readouterr().err == ""
    page = pictures.parent / f"{NAME}.html"
    write_report([run_dir], str(page))
    assert r"conv\udcff" in page.read_text()
    output, bad = str(pictures.parent / f"out{FOLDER}"), pictures / f"{NAME}.png"
    bad.write_bytes(b"")
    done = run_forked(
        "denoise", f"--run_dir={run_dir}", str(pictures), f"--output={output}"
    )
    bad.unlink()
    escaped = output.replace(FOLDER, r"t\udce9l\udcff")
    assert done.stdout == f"8 of 9 pictures denoised, into {escaped}\n"
    assert rf"/{ESCAPED}.png: it is empty" in done.stderr
    assert done.stderr.count("\n") == 2 and done.returncode == 1
    assert os.listdir(output) == [FOLDER]
    written = os.listdir(os.path.join(output, FOLDER))
    assert sorted(written) == sorted(os.listdir(pictures / FOLDER))


def test_compressed_files(pictures, tmp_path):
    pytest.importorskip("constriction")
    run_dir = train(pictures, "dense")
    (name, *_) = os.listdir(pictures / FOLDER)
    inputs = [str(pictures / FOLDER / name), str(tmp_path / NAME)]
    images = np.zeros((2, 16, 16), np.uint8)
    (tmp_path / NAME).write_bytes(
        bytes([0, 0, 8, 3]) + np.array(images.shape, ">i4").tobytes() + images.tobytes()
    )
    file, output = str(tmp_path / f"{NAME}.aelab"), str(tmp_path / "out\udcff")
    compress(run_dir, inputs, file, quantiser_step=1.0)
    done = decompress(run_dir, file, output)
    assert [os.path.basename(path) for path in done.files] == [name, NAME]
    assert read_idx(done.files[1], 3).shape == images.shape

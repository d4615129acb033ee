import re

import pytest
from conftest import ROOT
from PIL import Image
from test_results_page import PAGE, PHOTOS, rows_of

from aelab.cli.flags import CommandLine
from aelab.training.run import train_and_evaluate

CONFIGS = sorted((ROOT / "configs").glob("*.flags"))
PHOTO_CONFIGS = [path for path in CONFIGS if "denoise_photos" in path.read_text()]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Folders of pictures by their channels, enough for a validation part of 20."""
    folders = {}
    for channels, mode in ((1, "L"), (3, "RGB")):
        folders[channels] = tmp_path_factory.mktemp(mode)
        for number in range(23):
            size = (64 + number % 2, 66)
            Image.new(mode, size, 10 * number).save(folders[channels] / f"{number}.png")
    return folders


def read(path, *flags):
    command_line = CommandLine("")
    command_line.add_config()
    command_line.parse(["train.py", f"--flagfile={path}", *flags])
    return command_line.config()


def test_the_promised_configs_exist():
    names = {path.stem for path in CONFIGS}
    assert names >= {"quickstart", "dense", "denoise", "dense_best", "denoise_best"}
    assert names >= {"denoise_unet", "codec_low", "codec_mid", "codec_high"}
    assert names >= {"denoise_photos", "denoise_photos_blind", "denoise_photos_colour"}
    assert names >= {"noise2noise", "noise2void", "mnist_denoise"}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_config_trains(path, tmp_path, idx_folder, pictures):
    flags = ["--train_steps=2", "--train_examples=0", "--eval_examples=0"]
    if path in PHOTO_CONFIGS:
        channels = read(path, "--data_dir=FOLDER").image_channels
        flags += [f"--data_dir={pictures[channels]}"]
    else:
        flags += ["--dataset=idx", f"--data_dir={idx_folder}"]
    metrics = train_and_evaluate(read(path, *flags), str(tmp_path / "run"))
    assert metrics["psnr"] > 0


@pytest.mark.parametrize("path", PHOTO_CONFIGS, ids=lambda path: path.stem)
def test_recipes_of_photographs_fit_sets_of_400_pictures(path):
    """Evaluations are some hundred steps apart, and decoded pictures fit in memory."""
    config = read(path, "--data_dir=FOLDER")
    assert (config.validation_examples, config.test_share) == (20, 0)
    steps = config.eval_every_epochs * (400 - 20) / config.batch_size
    assert 500 < steps < 1500
    assert config.train_steps > 9 * steps
    bsds400 = 400 * 481 * 321 * 3  # bytes
    assert bsds400 < config.cache_mb * 1e6


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_header_has_the_command_and_the_measured_result(path):
    lines = path.read_text().splitlines()
    header = "\n".join(line for line in lines if line.startswith("#"))
    assert f"scripts/train.py --flagfile=configs/{path.name}" in header
    rows, photos = (
        [row for row in rows_of(page) if row["study"] == path.stem]
        for page in (PAGE, PHOTOS)
    )
    if not rows + photos and "# Not measured yet." not in lines:
        assert re.search(r"\d+\.\d+ dB", header)
        assert "synthetic" in header or "fashion-mnist-6k" in header
    assert not rows + photos or "# Not measured yet." not in lines
    for row in photos:
        assert any(
            f"{result['psnr']['mean']:.2f} dB on {result['folder']}" in header
            for result in row["results"]
            if not result["ensemble"]
        )
    for row in rows:
        assert f"{(row['file'] or row['metrics'])['psnr']['mean']:.2f} dB" in header
        if file := row["file"]:
            assert f"{file['bytes']['mean']:.2f} bytes" in header
        name = {"fashion_mnist": "all of Fashion-MNIST", "idx": "all of MNIST"}
        assert name[row["config"]["dataset"]] in header


def test_the_textbook_recipes_have_its_parameters():
    dense, denoise = (read(ROOT / f"configs/{n}.flags") for n in ("dense", "denoise"))
    for config in (dense, denoise):
        assert (config.optimizer, config.learning_rate, config.loss) == (
            *("adadelta", 1.0, "bce"),
        )
    assert (dense.model, dense.batch_size, dense.epochs) == ("dense", 256, 50)
    assert (dense.encoding_dim, dense.l1_activity, dense.noise_stddev) == (32, 1e-4, 0)
    assert (denoise.model, denoise.batch_size, denoise.epochs) == ("conv", 128, 100)
    assert denoise.noise_stddev == 0.5


def test_the_best_recipes_have_the_networks_of_the_textbook():
    dense, denoise = (
        read(ROOT / f"configs/{n}.flags") for n in ("dense_best", "denoise_best")
    )
    assert (dense.model, dense.encoding_dim) == ("dense", 32)
    assert (denoise.model, denoise.noise_stddev) == ("conv", 0.5)

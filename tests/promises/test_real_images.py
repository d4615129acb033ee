"""Models that are trained on real Fashion-MNIST images beat their baselines."""

import dataclasses

import numpy as np
import pytest
from conftest import ROOT

from aelab.apps.evaluation import evaluate_run
from aelab.cli.flags import CommandLine
from aelab.data.sources import load_splits
from aelab.training.run import train_and_evaluate


def read(name, real_data, *flags):
    """The configuration of a recipe in configs/, on real data."""
    command_line = CommandLine("")
    command_line.add_config()
    path = ROOT / "configs" / f"{name}.flags"
    data = ["--dataset=idx", f"--data_dir={real_data}"]
    command_line.parse(["train.py", f"--flagfile={path}", *data, *flags])
    return command_line.config()


def pca_psnr(config, components):
    """Mean PSNR in dB of the best linear code with so many numbers, clamped."""
    train, held_out = (
        source.read(np.arange(len(source))).reshape(len(source), -1) / 255
        for source in load_splits(config)
    )
    mean = train.mean(0)
    _, vectors = np.linalg.eigh(np.cov(train - mean, rowvar=False))
    basis = vectors[:, -components:]
    output = np.clip((held_out - mean) @ basis @ basis.T + mean, 0, 1)
    return (-10 * np.log10(((output - held_out) ** 2).mean(1))).mean()


@pytest.mark.slow
def test_dense_best_beats_principal_components_of_the_same_size(real_data, tmp_path):
    config = read("dense_best", real_data, "--epochs=60", "--eval_every_epochs=60")
    metrics = train_and_evaluate(config, str(tmp_path / "run"))
    baseline = pca_psnr(config, config.encoding_dim)
    assert baseline == pytest.approx(19.0, abs=0.05)
    assert metrics["psnr"] > baseline + 0.3


@pytest.mark.slow
def test_two_epochs_of_denoising_beat_the_noisy_input(real_data, tmp_path):
    config = read("denoise_best", real_data, "--epochs=2", "--eval_every_epochs=2")
    config = dataclasses.replace(config, warmup_steps=10)
    train_and_evaluate(config, str(tmp_path / "run"))
    result = evaluate_run(str(tmp_path / "run"), baselines=False)
    assert result.input["psnr"] == pytest.approx(9.30, abs=0.02)
    assert result.metrics["psnr"] > result.input["psnr"] + 4
    assert result.metrics["ssim"] > result.input["ssim"]

"""TensorBoard's pages of two runs, rendered by a real browser."""

import pytest
from conftest import metric_lines

TRAIN, EVAL = (
    [f"{run}/tensorboard/{split}" for run in ("code", "denoiser")]
    for split in ("train", "eval")
)
ERRORS = ("No dashboards", "data was not found", "No data", "No matches", "Failed to")
ERRORS += ("refused to connect", "Error:")


@pytest.fixture
def check(browser, tensorboard_of_runs):
    """`check(page, wanted, images)`: a page has these texts and no error."""

    def checked(name, wanted, images=0):
        page = browser.open(f"{tensorboard_of_runs}/#{name}", 1600, 1600)
        texts, sizes = page.read(
            lambda texts, sizes: set(wanted) <= set(texts) and len(sizes) >= images
        )
        assert set(wanted) <= set(texts), texts
        assert [t for t in texts if any(error in t for error in ERRORS)] == []
        assert len(sizes) >= images
        return sizes

    return checked


def test_time_series(check):
    """Every tag is a heading; the first ones are open."""
    tags = ("bce", "loss", "mse", "psnr", "ssim", "learning_rate", "images_per_second")
    check("timeseries", [*tags, *TRAIN, *EVAL])


def test_scalars(check):
    check("scalars", ["bce", "loss", "psnr", "ssim", "gradient_norm", *TRAIN, *EVAL])


def test_images(check):
    """The panel of each run, of 12 images in 3 rows."""
    sizes = check("images", ["panel", "step", *EVAL], images=2)
    assert sizes == [[1060, 268]] * 2


def test_graph(check):
    """The graph of the first run, layer by layer."""
    check("graphs", ["Main Graph", "images", "encoder_1", "decoder_1"])


def test_hyperparameters(check, runs):
    """A row per run: the fields that differ, and the metrics of the last evaluation."""
    names = ("bce", "loss", "mse", "psnr", "ssim")
    last = [metric_lines(runs / run, "eval")[-1] for run in ("code", "denoiser")]
    # As JavaScript's toPrecision(5) writes them.
    metrics = [f"{line[name]:#.5g}" for line in last for name in names]
    differing = ["encoding_dim", "epochs", "eval_examples", "model", "noise_stddev"]
    values = ["7.0000", "dense", "conv", "0.50000"]
    check("hparams", [*EVAL, *names, *differing, *values, *metrics])


def test_histograms(check):
    check("histograms", ["code", "weights", *EVAL])

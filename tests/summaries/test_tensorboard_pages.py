"""TensorBoard's pages of two runs, as a real browser renders them."""

import pytest
from conftest import metric_lines, tensorboard

TRAIN, EVAL = (
    [f"{run}/tensorboard/{split}" for run in ("code", "denoiser")]
    for split in ("train", "eval")
)
ERRORS = ("No dashboards", "data was not found", "No data", "No matches", "Failed to")
ERRORS += ("refused to connect", "Error:")


@pytest.fixture(scope="module")
def address(runs):
    with tensorboard(runs) as address:
        yield address


@pytest.fixture
def check(browser, address):
    """Returns `check(page, wanted, pictures)`: everything is there, nothing failed."""

    def checked(name, wanted, pictures=0):
        page = browser.open(f"{address}/#{name}", 1600, 1600)
        texts, seen = page.read(
            lambda texts, seen: set(wanted) <= set(texts) and len(seen) >= pictures
        )
        assert set(wanted) <= set(texts), texts
        assert [t for t in texts if any(error in t for error in ERRORS)] == []
        assert len(seen) >= pictures
        return seen

    return checked


def test_time_series(check):
    """Every tag is a heading; the first ones are open."""
    tags = ("bce", "loss", "mse", "psnr", "ssim", "learning_rate", "images_per_second")
    check("timeseries", [*tags, *TRAIN, *EVAL])


def test_scalars(check):
    check("scalars", ["bce", "loss", "psnr", "ssim", "gradient_norm", *TRAIN, *EVAL])


def test_images(check):
    """The panel of each run, of 12 images in 3 rows."""
    seen = check("images", ["panel", "step", *EVAL], pictures=2)
    assert seen == [[1060, 268]] * 2


def test_graph(check):
    """The graph of the first run, layer by layer."""
    check("graphs", ["Main Graph", "images", "encoder_1", "decoder_1"])


def test_hyperparameters(check, runs):
    """A row per run: its differences, and the metrics of the last evaluation."""
    names = ("bce", "loss", "mse", "psnr", "ssim")
    last = [metric_lines(runs / run, "eval")[-1] for run in ("code", "denoiser")]
    # As JavaScript's toPrecision(5) writes them.
    figures = [f"{line[name]:#.5g}" for line in last for name in names]
    differing = ["encoding_dim", "epochs", "eval_examples", "model", "noise_stddev"]
    values = ["7.0000", "dense", "conv", "0.50000"]
    check("hparams", [*EVAL, *names, *differing, *values, *figures])


def test_histograms(check):
    check("histograms", ["code", "weights", *EVAL])

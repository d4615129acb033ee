import json

import numpy as np
import pytest
from codec_runs import EVAL_IMAGES, untrained_run
from conftest import write_idx
from PIL import Image

from aelab.apps.compression.baselines import NAME
from aelab.apps.compression.compress import compress
from aelab.apps.compression.rate_distortion import (
    Measurement,
    bytes_at,
    curves,
    rate_distortion,
    table,
)
from aelab.data.sources import load_part
from aelab.errors import UsageError
from aelab.runs.directory import RunDirectory

pytest_plugins = ["codec_runs"]


def test_models_and_baselines_are_measured(tmp_path, codec_run, dense_run, monkeypatch):
    monkeypatch.setattr("aelab.apps.compression.baselines._STEPS", (0.5, 1.0))
    monkeypatch.setattr("aelab.apps.compression.baselines._COMPONENTS", (8, 16))
    points = rate_distortion([dense_run, codec_run], str(tmp_path / "rd"))
    written = json.loads((tmp_path / "rd" / "rate_distortion.json").read_text())
    assert written["images"] == EVAL_IMAGES
    assert [Measurement(**point) for point in written["points"]] == points
    with Image.open(tmp_path / "rd" / "rate_distortion.png") as plot:
        assert min(plot.size) > 300
    names = {point.codec for point in points}
    ours = {"learned codec", "run, rounded"}
    image_codecs = {f"{kind} mosaic" for kind in ("PNG", "JPEG", "WEBP")}
    image_codecs |= {
        name.replace(" mosaic", ", one file each") for name in image_codecs
    }
    assert names >= ours | image_codecs | {"PCA"}
    for point in points:
        assert point.bytes > (point.ideal_bytes or 0)
        assert point.psnr > 5 and point.ssim <= 1
        assert (point.psnr == 100) == point.codec.startswith("PNG")
    text = table(points)
    assert all(name in text for name in names)


def test_the_size_of_a_point_is_the_size_of_the_file(tmp_path, codec_run):
    """The file of the same images, with the name that the measurement takes."""
    source = load_part(RunDirectory(codec_run).read_config(), "test")
    write_idx(tmp_path / NAME, source.read(np.arange(EVAL_IMAGES))[..., 0])
    done = compress(codec_run, [str(tmp_path / NAME)], str(tmp_path / "x.aelab"))
    (point,) = rate_distortion([codec_run], str(tmp_path), "best", baselines=False)
    assert point.bytes == done.file_bytes / EVAL_IMAGES
    assert point.ideal_bytes == done.ideal_bytes / EVAL_IMAGES


def test_bytes_between_points_are_interpolated():
    curve = [(10.0, 20.0), (20.0, 22.0)]
    assert bytes_at(curve, 21.0) == 15.0
    assert bytes_at(curve, 20.0) == 10.0
    assert bytes_at(curve, 19.9) is None and bytes_at(curve, 22.1) is None


def test_a_curve_has_only_points_that_no_other_beats():
    points = [
        Measurement("a", "", size, None, None, level, 1.0)
        for size, level in [(3, 20), (1, 18), (2, 21), (2, 19), (4, 22)]
    ]
    assert curves(points) == {"a": [(1, 18), (2, 21), (4, 22)]}


def test_runs_with_different_test_images_are_refused(codec_run, tmp_path):
    assert RunDirectory(codec_run).read_data()["eval"]
    other = untrained_run(tmp_path / "other", model="dense", eval_print="other")
    with pytest.raises(UsageError, match="same test images"):
        rate_distortion([codec_run, other], str(tmp_path / "rd"))

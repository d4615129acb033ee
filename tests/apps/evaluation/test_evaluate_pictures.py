"""Whole pictures, held to the protocol of the literature by NumPy."""

import dataclasses
import errno
import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from conftest import run_forked, run_script
from philox import noise_bits
from PIL import Image
from skimage.metrics import structural_similarity

from aelab.apps.denoising.denoiser import Denoiser
from aelab.apps.evaluation import evaluate_pictures as module
from aelab.apps.evaluation import evaluate_run, picture_sets
from aelab.apps.evaluation.evaluate_pictures import (
    Options,
    evaluate_pairs,
    evaluate_pictures,
)
from aelab.apps.evaluation.picture_baselines import PictureBaseline
from aelab.apps.evaluation.picture_table import picture_table
from aelab.config import Config
from aelab.data.randomness import normal_table
from aelab.errors import UsageError
from aelab.models import build_model
from aelab.runs import checkpoints
from aelab.runs.directory import RunDirectory
from aelab.runs.trained_model import load_trained

CONFIG = Config(
    dataset="images",
    data_dir="gone",  # whole pictures do not need the run's own data
    model="resunet",
    filters=4,
    noise_stddev=25 / 255,
    noise_clip=False,
    loss="mse",
)
PLAIN = Options(baselines=False)
# In byte order, which is not that of a dictionary.
NAMES = ["B.png", "a.png", "sub/c.png", "\u00e4.png"]
RANDOM = np.random.default_rng(0)
# Of Wang et al. 2004.
SSIM = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
SSIM["data_range"] = 1.0


def smooth(height, width, *channels):
    rows, columns = np.mgrid[:height, :width]
    wave = 127 + 100 * np.sin(rows / 7) * np.cos(columns / 5)
    return np.uint8(
        np.broadcast_to(wave[..., None], (height, width, *(channels or (1,))))
    )


def write_run(path, channels=1, **values):
    """A run whose model has random weights: nearly the identity."""
    run, config = RunDirectory(str(path)), dataclasses.replace(CONFIG, **values)
    shape = (32, 32, channels)
    run.write(config, {"image_shape": list(shape)}, {})
    autoencoder = build_model(config, shape)
    arrays = {
        f"model/{name}": np.float32(
            variable.numpy() + RANDOM.normal(0, 0.01, variable.shape)
        )
        for name, variable in autoencoder.named_variables().items()
    }
    checkpoints.save(run.best, 7, arrays | {"step": np.int64(7)})
    return run


@pytest.fixture
def run(tmp_path):
    return write_run(tmp_path / "run")


@pytest.fixture
def folder(tmp_path):
    """Gray pictures of different sizes, one of them turned by its EXIF orientation."""
    folder, exif = tmp_path / "Set4", Image.Exif()
    exif[0x0112] = 6
    for number, name in enumerate(NAMES):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = smooth(40 + 9 * number, 64 - 5 * number)[..., 0]
        options = {"exif": exif} if number == 1 else {}
        Image.fromarray(pixels).save(path, **options)
    return folder


def upright(path):
    pixels = np.asarray(Image.open(path), np.float64) / 255
    return np.rot90(pixels, -1) if path.name == "a.png" else pixels


def noisy_by_numpy(clean, number, stddev):
    """A stream for each picture; the same draw at all levels, scaled; not clipped."""
    bits = noise_bits((6 << 32) + number, 0, clean.size).reshape(clean.shape)
    noise = (stddev * normal_table()).astype(np.float32)[bits]
    return np.float32(clean) + noise


def psnr(clean, values):
    return -10 * np.log10(np.mean((values - clean) ** 2))


def restored_by_keras(run, noisy, channels=1):
    """The exported layers on the picture, surrounded by its reflection."""
    config = dataclasses.replace(run.read_config(), stock_layers=True)
    model = build_model(config, (None, None, channels)).model
    model.set_weights(load_trained(run, "best").autoencoder.model.get_weights())
    height, width = noisy.shape[:2]
    padding = [(96, 96 + -height % 8), (96, 96 + -width % 8), (0, 0)]
    wide = np.pad(noisy.reshape(height, width, channels), padding, mode="reflect")
    output = model(wide[None]).numpy()[0]
    return output[96 : 96 + height, 96 : 96 + width].reshape(noisy.shape)


def test_the_protocol_is_the_one_of_the_literature(run, folder):
    stddevs = [15 / 255, 50 / 255]
    result = evaluate_pictures(run.path, str(folder), stddevs, options=PLAIN)
    assert (result.folder, result.pictures, result.step) == ("Set4", 4, 7)
    assert [level.stddev for level in result.levels] == stddevs
    for level in result.levels:
        assert [each["name"] for each in level.each] == NAMES
        assert not level.clip
        inputs, outputs, similarities = [], [], []
        for number, name in enumerate(NAMES):
            clean = upright(folder / name)
            noisy = noisy_by_numpy(clean, number, level.stddev)
            inputs.append(psnr(clean, noisy))
            output = restored_by_keras(run, noisy).clip(0, 1)
            outputs.append(psnr(clean, output))
            similarities.append(structural_similarity(clean, output, **SSIM))
        assert level.input_psnr == pytest.approx(np.mean(inputs), abs=1e-4)
        assert level.psnr == pytest.approx(np.mean(outputs), abs=1e-3)
        found = [each["psnr"] for each in level.each]
        assert found == pytest.approx(outputs, abs=1e-3)
        found = [each["ssim"] for each in level.each]
        assert found == pytest.approx(similarities, abs=1e-4)
        assert level.ssim == pytest.approx(np.mean(similarities), abs=1e-4)


def test_the_input_at_25_has_20_17_db(run, tmp_path):
    """As published: noise that is clipped would have more."""
    pixels = RANDOM.integers(0, 256, (300, 400), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    for clip, expected in ((None, 20.17), (False, 20.17), (True, 20.7)):
        result = evaluate_pictures(run.path, str(tmp_path), [25 / 255], clip, PLAIN)
        assert result.levels[0].input_psnr == pytest.approx(expected, abs=0.1)
    assert result.levels[0].clip


def test_level_and_clipping_are_the_runs_unless_given(
    run, folder, tmp_path, monkeypatch
):
    monkeypatch.setattr(Denoiser, "denoise", lambda self, noisy: noisy)
    (level,) = evaluate_pictures(run.path, str(folder), options=PLAIN).levels
    assert (level.stddev, level.clip) == (25 / 255, False)
    clipped = write_run(tmp_path / "2", noise_stddev_max=0.2, noise_clip=True)
    levels = evaluate_pictures(clipped.path, str(folder), options=PLAIN).levels
    assert [level.stddev for level in levels] == [25 / 255, 0.2]
    assert all(level.clip for level in levels)
    assert {level.correlation for level in levels} == {0}
    blind = write_run(tmp_path / "4", noise_stddev=0.0, noise_stddev_max=0.2)
    (level,) = evaluate_pictures(blind.path, str(folder), options=PLAIN).levels
    assert level.stddev == 0.2
    quiet = write_run(
        tmp_path / "3", noise_stddev=0.0, corruption="none", noise_clip=True
    )
    with pytest.raises(UsageError, match="--noise_stddevs is missing"):
        evaluate_pictures(quiet.path, str(folder), options=PLAIN)


def test_only_gaussian_noise_is_added_with_a_warning(
    run, folder, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(Denoiser, "denoise", lambda self, noisy: noisy)
    values = {"corruption": "gaussian,poisson,jpeg", "noise_clip": True}
    both = write_run(tmp_path / "2", **values)
    one, two = (
        evaluate_pictures(each.path, str(folder), clip=True, options=PLAIN).levels
        for each in (run, both)
    )
    assert one == two
    assert capsys.readouterr().err == (
        "warning: only Gaussian noise is added, not jpeg, poisson of the run's "
        "--corruption\n"
    )


def test_correlated_noise_is_the_runs_and_is_named(run, tmp_path, monkeypatch):
    (tmp_path / "flat").mkdir()
    Image.new("L", (300, 300), 128).save(tmp_path / "flat" / "a.png")
    correlated = write_run(tmp_path / "2", noise_correlation=0.5)
    seen = []
    monkeypatch.setattr(
        Denoiser, "denoise", lambda self, noisy: seen.append(noisy) or noisy
    )
    for each, expected in ((run, 0), (correlated, 0.5)):
        result = evaluate_pictures(each.path, str(tmp_path / "flat"), options=PLAIN)
        assert result.levels[0].correlation == expected
        assert ("--noise_correlation=0.5" in picture_table(result)) == bool(expected)
        noise = seen.pop()[..., 0] - 128 / 255
        assert abs(noise.std() * 255 - 25) < 0.5
        neighbors = np.corrcoef(noise[:, 1:].ravel(), noise[:, :-1].ravel())[0, 1]
        assert abs(neighbors - expected) < 0.02


def test_correlated_noise_of_color_is_the_same_at_all_levels(tmp_path, monkeypatch):
    Image.new("RGB", (64, 64), (128, 128, 128)).save(tmp_path / "a.png")
    run = write_run(tmp_path / "run", channels=3, noise_correlation=0.5)
    seen = []
    monkeypatch.setattr(
        Denoiser, "denoise", lambda self, noisy: seen.append(noisy) or noisy
    )
    evaluate_pictures(run.path, str(tmp_path), [0.05, 0.1], options=PLAIN)
    weak, strong = (noisy - np.float32(128 / 255) for noisy in seen)
    np.testing.assert_allclose(strong, 2 * weak, atol=1e-6)
    assert np.corrcoef(weak.reshape(-1, 3), rowvar=False)[0, 1] > 0.05


def test_the_ensemble_is_the_mean_over_flips_and_turns(run, folder):
    options = PLAIN._replace(ensemble=True)
    result = evaluate_pictures(run.path, str(folder), options=options)
    assert "the eight flips and rotations of each picture" in picture_table(result)
    (level,) = result.levels
    for number, name in enumerate(NAMES):
        clean, outputs = upright(folder / name), []
        noisy = noisy_by_numpy(clean, number, 25 / 255)
        for mirrored in (False, True):
            for turns in range(4):
                seen = np.rot90(noisy[:, ::-1] if mirrored else noisy, turns)
                output = np.rot90(restored_by_keras(run, seen), -turns)
                outputs.append(output[:, ::-1] if mirrored else output)
        expected = psnr(clean, np.mean(outputs, axis=0).clip(0, 1))
        assert level.each[number]["psnr"] == pytest.approx(expected, abs=1e-3)
    content = json.loads(Path(run.path, "evaluation-Set4-ensemble.json").read_text())
    assert content["ensemble"] is True


def test_the_arithmetic_is_the_runs_unless_given(tmp_path, folder):
    run = write_run(tmp_path / "run16", precision="mixed_bfloat16")
    results = [
        evaluate_pictures(run.path, str(folder), options=PLAIN._replace(precision=each))
        for each in (None, "mixed_bfloat16", "float32")
    ]
    assert [r.precision for r in results] == ["mixed_bfloat16"] * 2 + ["float32"]
    values = [result.levels[0].psnr for result in results]
    assert values[0] == values[1] != values[2]
    assert values[0] == pytest.approx(values[2], abs=0.1)


def test_the_lower_bits_of_16_count(run, tmp_path):
    """A picture that has only the upper ones is not the same."""
    deep = RANDOM.integers(0, 65536, (40, 40)).astype(np.uint16)
    upper = deep // 256 * 256
    tifffile.imwrite(tmp_path / "a_clean.tif", deep)
    tifffile.imwrite(tmp_path / "a_noisy.tif", upper)
    result = evaluate_pairs(run.path, str(tmp_path), "_noisy.tif", "_clean.tif", PLAIN)
    expected = psnr(deep / 65535, upper / 65535)
    assert 50 < expected < 60
    assert result.levels[0].input_psnr == pytest.approx(expected, abs=1e-3)
    output = restored_by_keras(run, np.float32(upper / 65535)).clip(0, 1)
    expected = psnr(deep / 65535, output)
    assert result.levels[0].psnr == pytest.approx(expected, abs=1e-3)


@pytest.fixture
def pairs(tmp_path):
    """Two pairs of gray pictures, and a picture that belongs to none."""
    folder = tmp_path / "Pairs"
    folder.mkdir()
    for number, stem in enumerate("xy"):
        clean = smooth(33, 42)[..., 0]
        noise = np.random.default_rng(number).normal(0, 9, clean.shape)
        for suffix, values in (("_mean.png", clean), ("_real.png", clean + noise)):
            Image.fromarray(np.uint8(values.clip(0, 255))).save(
                folder / f"{stem}{suffix}"
            )
    Image.fromarray(smooth(9, 9)[..., 0]).save(folder / "other.png")
    return folder


def test_pairs_have_the_noise_of_the_files(run, pairs):
    result = evaluate_pairs(run.path, str(pairs), "_real.png", "_mean.png", PLAIN)
    (level,) = result.levels
    assert (result.pictures, level.stddev) == (2, None)
    assert [each["name"] for each in level.each] == ["x", "y"]
    expected = []
    for stem, each in zip("xy", level.each, strict=True):
        noisy, clean = (
            np.asarray(Image.open(pairs / f"{stem}_{kind}.png"), np.float64) / 255
            for kind in ("real", "mean")
        )
        expected.append(psnr(clean, noisy))
        output = restored_by_keras(run, np.float32(noisy)).clip(0, 1)
        assert each["psnr"] == pytest.approx(psnr(clean, output), abs=1e-3)
    assert level.input_psnr == pytest.approx(np.mean(expected), abs=1e-4)
    content = json.loads(Path(run.path, "evaluation-Pairs.json").read_text())
    assert content["levels"][0]["stddev"] is None


def test_one_ending_may_be_the_end_of_the_other(run, pairs):
    for path in pairs.glob("*_mean.png"):
        noisy = pairs / f"{path.stem.removesuffix('_mean')}.png"
        path.with_name(f"{path.stem.removesuffix('_mean')}_real.png").rename(noisy)
    (pairs / "other.png").unlink()
    result = evaluate_pairs(run.path, str(pairs), ".png", "_mean.png", PLAIN)
    assert [each["name"] for each in result.levels[0].each] == ["x", "y"]


def test_all_pictures_are_checked_before_the_first_is_denoised(
    run, folder, pairs, monkeypatch
):
    monkeypatch.setattr(module.Denoiser, "denoise", None)
    Image.fromarray(smooth(30, 30, 3)).save(folder / "zzz.png")
    with pytest.raises(UsageError, match=r"zzz\.png: it is color"):
        evaluate_pictures(run.path, str(folder), options=PLAIN)
    (folder / "zzz.png").write_bytes((folder / "B.png").read_bytes()[:-30])
    with pytest.raises(UsageError, match=r"zzz\.png: "):
        evaluate_pictures(run.path, str(folder), options=PLAIN)
    Image.fromarray(smooth(9, 9)[..., 0]).save(pairs / "y_mean.png")
    with pytest.raises(UsageError, match=r"has 42 x 33 pixels, .* 9 x 9 pixels"):
        evaluate_pairs(run.path, str(pairs), "_real.png", "_mean.png", PLAIN)


def test_a_run_that_may_only_be_read_is_evaluated(run, folder, monkeypatch, capsys):
    def refuse(path, content):
        raise PermissionError(errno.EACCES, "no", path)

    monkeypatch.setattr(module, "write_bytes", refuse)
    result = evaluate_pictures(run.path, str(folder), options=PLAIN)
    assert result.pictures == 4
    assert "the result is not kept" in capsys.readouterr().err


def test_a_missing_noisy_picture_is_a_warning(run, pairs, capsys):
    (pairs / "x_real.png").unlink()
    result = evaluate_pairs(run.path, str(pairs), "_real.png", "_mean.png", PLAIN)
    assert result.pictures == 1
    warning = "1 without a noisy version left out, for example x_mean.png"
    assert warning in capsys.readouterr().err


def test_linked_folders_are_searched(run, folder, tmp_path):
    linked = tmp_path / "linked"
    linked.mkdir()
    (linked / "more").symlink_to(folder)
    result = evaluate_pictures(run.path, str(linked), options=PLAIN)
    assert result.pictures == len(NAMES)


def test_a_missing_clean_picture_is_refused(run, pairs):
    with pytest.raises(UsageError, match="has no name that ends in --noisy=_r"):
        evaluate_pairs(run.path, str(pairs), "_r", "_mean.png", PLAIN)
    (pairs / "y_mean.png").unlink()
    with pytest.raises(UsageError, match=r"has no y_mean\.png, the clean picture"):
        evaluate_pairs(run.path, str(pairs), "_real.png", "_mean.png", PLAIN)


def test_baselines_are_better_than_the_input(tmp_path):
    """Those that are installed, on a gray picture and on a color one."""
    for channels in (1, 3):
        run = write_run(tmp_path / f"run{channels}", channels)
        folder = tmp_path / str(channels)
        folder.mkdir()
        pixels = smooth(48, 56, channels)
        Image.fromarray(pixels[..., 0] if channels == 1 else pixels).save(
            folder / "a.png"
        )
        result = evaluate_pictures(run.path, str(folder))
        (level,) = result.levels
        assert {
            "non_local_means",
            "total_variation",
            "wavelets",
        } <= level.baselines.keys()
        for name, values in level.baselines.items():
            assert values["psnr"] > level.input_psnr + 4, name
            assert values["ssim"] > level.input_ssim, name
        assert set(result.missing) <= {"bm3d"}
        note = "The level of the noise is known to NL means, wavelets"
        assert note in picture_table(result)
        only = {"total_variation": level.baselines["total_variation"]}
        result.levels[0] = dataclasses.replace(level, baselines=only)
        assert "known" not in picture_table(result)


def test_baselines_are_given_the_true_level_and_none_of_pairs(
    run, folder, pairs, monkeypatch
):
    levels = []

    def restore(noisy, clean, stddev):
        levels.append(stddev)
        return noisy

    monkeypatch.setattr(Denoiser, "denoise", lambda self, noisy: noisy)
    baselines = {"wavelets": PictureBaseline(restore, ())}
    monkeypatch.setattr(module, "PICTURE_BASELINES", baselines)
    evaluate_pictures(run.path, str(folder), [0.1, 0.2])
    assert levels == [0.1] * 4 + [0.2] * 4
    levels.clear()
    evaluate_pairs(run.path, str(pairs), "_real.png", "_mean.png")
    assert levels == [None, None]


@pytest.mark.slow
def test_the_command_prints_a_table_and_refuses_other_channels(run, folder, pairs):
    """Exit code 2 for a picture of other channels than the model's."""
    words = [f"--run_dir={run.path}", f"--pictures={folder}", "--floors=false"]
    result = run_script("evaluate", *words, "--noise_stddevs=15/255,25/255")
    assert result.returncode == 0, result.stderr
    assert "Set4: 4 whole pictures, best checkpoint, step 7, float32" in result.stdout
    assert "15/255, not clipped" in result.stdout
    Image.fromarray(smooth(30, 30, 3)).save(folder / "color.png")
    result = run_script("evaluate", *words)
    assert result.returncode == 2
    assert "color.png: it is color, and the run's model takes gray" in result.stderr
    assert "Traceback" not in result.stderr
    for bad in (
        ["--ensemble"],
        ["--noisy=_real.png"],
        [f"--pairs={pairs}"],
        [f"--pairs={pairs}", f"--pictures={folder}"],
        [f"--pictures={folder}", "--split=test"],
        [f"--pairs={pairs}", "--noisy=a", "--clean=b", "--noise_clip=true"],
        [f"--pairs={pairs}", "--noisy=a", "--clean=b", "--noise_stddevs=0.1"],
        [f"--pairs={pairs}", "--noisy=a", "--clean=a"],
        ["--pictures=", "--noise_stddevs=25/255"],
        ["--pairs="],
    ):
        result = run_script("evaluate", f"--run_dir={run.path}", *bad)
        assert result.returncode == 2, bad
        assert result.stderr.startswith("error: --"), result.stderr


def test_the_flags_of_the_command_arrive(run, folder, pairs):
    options = PLAIN._replace(ensemble=True, precision="mixed_float16")
    suffixes, levels = ("_real.png", "_mean.png"), (15 / 255, 25 / 255)
    expected = [
        evaluate_pairs(run.path, str(pairs), *suffixes, options),
        evaluate_pictures(run.path, str(folder), levels, True, PLAIN),
    ]
    of_pairs = ["--noisy=_real.png", "--clean=_mean.png", "--ensemble"]
    of_pictures = ["--noise_stddevs=15/255,25/255", "--noise_clip"]
    for words in (
        [f"--pairs={pairs}", *of_pairs, "--precision=mixed_float16"],
        [f"--pictures={folder}", *of_pictures],
    ):
        words += [f"--run_dir={run.path}", "--floors=false"]
        result = run_forked("evaluate", *words)
        assert result.returncode == 0, result.stderr
    for evaluation, name in zip(expected, ("Pairs-ensemble", "Set4"), strict=True):
        content = Path(run.path, f"evaluation-{name}.json").read_text()
        assert json.loads(content) == json.loads(evaluation.to_json())


def test_an_animation_is_refused(tmp_path):
    run = write_run(tmp_path / "run", channels=3)
    frames = [Image.new("RGB", (20, 20), color) for color in ("black", "white")]
    (tmp_path / "set").mkdir()
    path = tmp_path / "set" / "a.webp"
    frames[0].save(path, save_all=True, append_images=frames[1:])
    with pytest.raises(UsageError, match=r"a\.webp: it holds 2 pictures"):
        evaluate_pictures(run.path, str(path.parent), options=PLAIN)


def test_a_damaged_picture_is_named(run, folder):
    (folder / "B.png").write_bytes(b"no picture")
    with pytest.raises(UsageError, match=r"B\.png: it is not a picture"):
        evaluate_pictures(run.path, str(folder), options=PLAIN)
    Image.new("LA", (20, 20)).save(folder / "B.png")
    with pytest.raises(UsageError, match=r"B\.png: it has an alpha channel"):
        evaluate_pictures(run.path, str(folder), options=PLAIN)
    for missing in (folder / "none", folder / "empty"):
        (folder / "empty").mkdir(exist_ok=True)
        with pytest.raises(UsageError, match=r"is not a folder|has no pictures"):
            evaluate_pictures(run.path, str(missing), options=PLAIN)


def test_copies_of_training_pictures_in_the_test_part_are_reported(tmp_path, capsys):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(12):
        Image.fromarray(smooth(40, 40)[..., 0]).save(folder / f"{number}.png")
    data = {"dataset": "images", "data_dir": str(folder), "image_size": 32}
    data |= {"image_channels": 1, "validation_examples": 2, "test_share": 0.5}
    run = write_run(tmp_path / "run", **data)
    evaluate_run(run.path, baselines=False)
    assert "are byte-identical to pictures for training" in capsys.readouterr().err


def test_psnr_clamps_the_output_only():
    clean = np.zeros((11, 11, 1), np.float32)
    assert module.picture_quality(clean, clean - 1).psnr == 100
    found = module.picture_quality(clean, clean - 0.1, clamped=False)
    assert found.psnr == pytest.approx(20, abs=1e-5)


def test_memory_and_disk_are_not_blamed_on_a_picture(run, folder, monkeypatch):
    """They are exit code 1, and a bad file is 2."""

    def fail(*arguments, **options):
        raise OSError(errno.EIO, "the disk fails")

    monkeypatch.setattr(picture_sets, "opened", fail)
    with pytest.raises(OSError, match="the disk fails"):
        evaluate_pictures(run.path, str(folder), options=PLAIN)

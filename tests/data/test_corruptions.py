import dataclasses
import io
import json
import math
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from conftest import ROOT
from PIL import Image

from aelab.config import FIELDS, Config
from aelab.config.registry import CORRUPTIONS
from aelab.data.corruptions import (
    corrupt,
    describe,
    jpeg,
    masking,
    photon_table,
)
from aelab.data.randomness import Key

CONFIG = Config(noise_stddev=0.5)


def config_of(corruption, **levels):
    """Gaussian noise gets a level; the defaults of other levels have an effect."""
    if "gaussian" in corruption.split(","):
        levels = {"noise_stddev": 0.3} | levels
    return Config(corruption=corruption, **levels)


EVERY = [
    *(config_of(name) for name in sorted(CORRUPTIONS)),
    config_of("gaussian", noise_stddev_max=0.9),
    config_of(",".join(sorted(CORRUPTIONS.keys() - {"none"})), noise_stddev_max=0.6),
    config_of("gaussian", noise_clip=False),
    config_of("gaussian", noise_stddev_max=0.9, noise_clip=False),
    config_of("gaussian", noise_correlation=0.5, noise_clip=False),
    config_of("gaussian", noise_correlation=0.7, noise_stddev_max=0.9),
    config_of("masking,masking"),
    config_of("jpeg", jpeg_quality_max=90),
]
each = pytest.mark.parametrize("config", EVERY, ids=describe)


def key(stream=7, first_example=0):
    return Key(tf.constant(stream, tf.int64), tf.constant(first_example, tf.int64))


def gray(count, shape=(28, 28, 1), value=0.5):
    return tf.fill([count, *shape], np.float32(value))


def smooth(count, shape=(28, 28, 1)):
    """Images like photographs: soft waves of 8-bit values, different in each image."""
    height, width, channels = shape
    generator = np.random.default_rng(3)
    rows, columns = np.mgrid[:height, :width]
    speeds = generator.uniform(0.1, 0.5, (2, count, channels, 1, 1))
    waves = np.sin(speeds[0] * rows) * np.cos(speeds[1] * columns)
    return np.rint(127.5 + 127.5 * waves).astype(np.uint8).transpose(0, 2, 3, 1)


def to_floats(pixels):
    return tf.constant(pixels / 255, tf.float32)


KEY = key()


def corrupted(config, images, key=KEY):
    """The corrupted images in float64."""
    return corrupt(images, key, config).numpy().astype(np.float64)


def is_share(hits, rate, count):
    """True if a share is within five standard errors of the rate."""
    return abs(hits - rate) <= 5 * math.sqrt(rate * (1 - rate) / count)


def test_config_offers_all_corruptions():
    assert tuple(CORRUPTIONS) == FIELDS["corruption"].metadata["choices"]


# Every corruption.


@each
def test_eager_compiled_and_inside_a_dataset_are_equal(config):
    images = to_floats(smooth(6))
    eager = corrupt(images, KEY, config)
    compiled = tf.function(lambda x: corrupt(x, KEY, config), autograph=False)(images)
    in_dataset = tf.autograph.experimental.do_not_convert(
        lambda x: corrupt(x, KEY, config)
    )
    dataset = tf.data.Dataset.from_tensors(images).map(in_dataset)
    np.testing.assert_array_equal(compiled, eager)
    np.testing.assert_array_equal(next(iter(dataset)), eager)
    assert eager.dtype == tf.float32
    assert eager.shape == dataset.element_spec.shape == images.shape


@pytest.mark.parametrize("shape", [(28, 28, 1), (9, 14, 3), (13, 6, 2), (1, 1, 4)])
@each
def test_any_run_of_examples_is_a_slice_of_the_whole(config, shape):
    images = to_floats(smooth(9, shape))
    whole = corrupt(images, KEY, config)
    assert whole.shape == images.shape
    for first, last in [(0, 4), (5, 9), (8, 9)]:
        part = corrupt(images[first:last], key(first_example=first), config)
        np.testing.assert_array_equal(part, whole[first:last])
    order = [7, 0, 3]
    part = corrupt(tf.gather(images, order), key(first_example=order), config)
    np.testing.assert_array_equal(part, tf.gather(whole, order))


@each
def test_result_stays_in_range_and_differs_from_the_input(config):
    images = to_floats(smooth(20))
    result = corrupted(config, images)
    if config.noise_clip:
        assert result.min() >= 0
        assert result.max() <= 1
    else:
        assert result.min() < -0.5
        assert result.max() > 1.5
    change = np.abs(result - images.numpy()).mean()
    assert change > 0.01 if config.corruption != "none" else change == 0


@each
def test_other_streams_and_examples_are_corrupted_differently(config):
    images = to_floats(np.repeat(smooth(1), 10, axis=0))
    one = corrupted(config, images)
    others = [key(stream=8), key(first_example=10)]
    if config in (config_of("jpeg"), config_of("none")):  # which have no randomness
        for other in others:
            np.testing.assert_array_equal(corrupted(config, images, other), one)
        return
    if config.corruption == "jpeg":
        for other in others:
            assert (corrupted(config, images, other) != one).any()
        return
    assert len({image.tobytes() for image in one}) == 10
    usual = one.mean(0)
    for other in others:
        two = corrupted(config, images, other)
        rest = (one - usual).ravel(), (two - usual).ravel()
        assert abs(np.corrcoef(*rest)[0, 1]) < 0.1


IN_ANOTHER_PROCESS = """
import json, sys
import numpy as np
import tensorflow as tf
tf.config.threading.set_intra_op_parallelism_threads(1)
from aelab.config import Config
from aelab.data.corruptions import corrupt
from aelab.data.randomness import Key
key = Key(tf.constant(7, tf.int64), tf.constant(0, tf.int64))
images = tf.constant(np.load(sys.argv[1]))
np.save(sys.argv[2], corrupt(images, key, Config(**json.loads(sys.argv[3]))))
"""


def test_a_process_with_another_number_of_threads_gives_the_same(tmp_path):
    names = CORRUPTIONS.keys() - {"none"}
    (config,) = [c for c in EVERY if set(c.corruptions()) == names]
    images = to_floats(smooth(70))
    paths = [str(tmp_path / name) for name in ("images.npy", "corrupted.npy")]
    np.save(paths[0], images)
    fields = json.dumps(dataclasses.asdict(config))
    command = [sys.executable, "-c", IN_ANOTHER_PROCESS, *paths, fields]
    subprocess.run(command, cwd=ROOT, capture_output=True, timeout=300, check=True)
    np.testing.assert_array_equal(np.load(paths[1]), corrupt(images, KEY, config))


# Values that are replaced.


@pytest.mark.parametrize("rate", [0.0, 0.001, 0.3, 1.0])
def test_salt_and_pepper_hit_the_requested_share(rate):
    config = config_of("salt_and_pepper", salt_and_pepper_rate=rate)
    result = corrupted(config, gray(500, value=0.25))
    assert set(np.unique(result)) <= {0.0, 0.25, 1.0}
    for value in (0.0, 1.0):
        assert is_share((result == value).mean(), rate / 2, result.size)


@pytest.mark.parametrize("rate", [0.0, 0.001, 0.3, 1.0])
def test_masking_hits_the_requested_share(rate):
    config = config_of("masking", masking_rate=rate)
    result = corrupted(config, gray(500, value=0.25))
    assert set(np.unique(result)) <= {0.0, 0.25}
    assert is_share((result == 0).mean(), rate, result.size)


@pytest.mark.parametrize("name", ["salt_and_pepper", "masking"])
def test_channels_are_hit_independently(name):
    config = config_of(name, **{f"{name}_rate": 0.3})
    hit = corrupted(config, gray(500, (12, 12, 3))) != 0.5
    for pair in ([0, 1], [1, 2], [0, 2]):
        assert is_share(hit[..., pair].all(-1).mean(), 0.09, 500 * 144)


@pytest.mark.parametrize("name", ["salt_and_pepper", "masking"])
def test_other_values_are_unchanged(name):
    images = to_floats(smooth(50))
    result = corrupt(images, KEY, config_of(name)).numpy()
    other = (result != 0) & (result != 1)
    np.testing.assert_array_equal(result[other], images[other])


# Photons.


def poisson_distribution(mean, length):
    """P(count <= k) for k < length, each probability from the previous one."""
    chances = [math.exp(-mean)]
    for k in range(1, length):
        chances.append(chances[-1] * mean / k)
    return np.minimum(np.cumsum(chances), 1)


@pytest.mark.parametrize("peak", [0.01, 0.7, 10.0, 600.0])
def test_the_photon_table_is_the_poisson_distribution(peak):
    table = photon_table(peak)
    assert (np.diff(table, axis=1) >= 0).all()
    assert (table[0] == 65536).all() and (table[:, -1] == 65536).all()
    for light in (1, 2, 77, 128, 254, 255):
        expected = poisson_distribution(peak * light / 255, table.shape[1])
        np.testing.assert_allclose(table[light] / 65536, expected, atol=0.51 / 65536)


@pytest.mark.parametrize("light", [0, 3, 60, 120])
@pytest.mark.parametrize("peak", [300.0, 1000.0])
def test_photons_have_the_mean_and_variance_of_poisson(peak, light):
    """Far from 1 nothing is clipped: the mean is x, and the variance x / peak."""
    config = config_of("poisson", poisson_peak=peak)
    value = light / 255
    found = corrupted(config, gray(500, value=value))
    assert abs(found.mean() - value) <= 5 * math.sqrt(value / peak / found.size)
    # The fourth moment of counts about their mean m is 3 m^2 + m.
    error = math.sqrt((2 + 1 / max(peak * value, 1)) / found.size)
    assert abs(found.var() - value / peak) <= 5 * error * value / peak


@pytest.mark.parametrize("peak", [0.5, 4.0, 30.0])
@pytest.mark.parametrize("light", [1, 100, 255])
def test_photon_counts_have_the_poisson_distribution(peak, light):
    """The shares of all counts; counts that are clipped to 1 are one class."""
    config = config_of("poisson", poisson_peak=peak)
    found = corrupted(config, gray(300, value=light / 255))
    below = math.ceil(peak)  # the first count that is shown as 1
    expected = poisson_distribution(peak * light / 255, below)
    counts = np.rint(found * peak)
    for count, share in enumerate(expected):
        hits = (counts[found < 1] <= count).sum() / found.size
        assert is_share(hits, share, found.size)
    allowed = np.float32(np.minimum(np.arange(below + 1) / peak, 1))
    assert set(np.unique(found)) <= set(allowed.astype(np.float64))


def test_light_is_rounded_to_8_bits_before_counting():
    config = config_of("poisson")
    expected = corrupted(config, gray(5, value=100 / 255))
    for value in (99.6, 100.4):
        found = corrupted(config, gray(5, value=value / 255))
        np.testing.assert_array_equal(found, expected)


# JPEG.


def through_pillow(image, quality):
    """One image, uint8 [H, W, C], encoded and decoded by Pillow."""
    file = io.BytesIO()
    Image.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image).save(
        file, "JPEG", quality=quality
    )
    return np.asarray(Image.open(file)).reshape(image.shape)


@pytest.mark.parametrize("quality", [1, 10, 75, 100])
@pytest.mark.parametrize("shape", [(28, 28, 1), (50, 37, 1), (28, 28, 3), (61, 45, 3)])
def test_jpeg_equals_pillow(shape, quality):
    pixels = smooth(3, shape)
    found = jpeg(to_floats(pixels), KEY, config_of("jpeg", jpeg_quality=quality))
    expected = np.stack([through_pillow(image, quality) for image in pixels])
    np.testing.assert_array_equal(np.rint(found.numpy() * 255), expected)
    np.testing.assert_array_equal(found, to_floats(expected))


def test_each_image_has_its_own_quality():
    """Uniform, from the lowest to the highest; the same image shows which it was."""
    pixels = np.repeat(smooth(1, (24, 24, 3)), 300, axis=0)
    config = config_of("jpeg", jpeg_quality=40, jpeg_quality_max=44)
    found = np.rint(jpeg(to_floats(pixels), KEY, config).numpy() * 255)
    versions = [through_pillow(pixels[0], quality) for quality in range(40, 45)]
    counts = [int((found == version).all(axis=(1, 2, 3)).sum()) for version in versions]
    assert sum(counts) == 300 and min(counts) > 35


@pytest.mark.parametrize("channels", [2, 4])
def test_other_numbers_of_channels_become_gray_files(channels):
    pixels = smooth(3, (20, 12, channels))
    config = config_of("jpeg")
    found = jpeg(to_floats(pixels), KEY, config)
    for channel in range(channels):
        gray = jpeg(to_floats(pixels[..., channel, np.newaxis]), KEY, config)
        np.testing.assert_array_equal(found[..., channel, np.newaxis], gray)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_higher_quality_has_a_smaller_error(channels):
    images = to_floats(smooth(20, (48, 48, channels)))
    clean = images.numpy()
    errors = [
        ((corrupted(config_of("jpeg", jpeg_quality=q), images) - clean) ** 2).mean()
        for q in (1, 3, 10, 30, 60, 90, 100)
    ]
    assert (np.diff(errors) < 0).all()


# Several corruptions.


def test_several_are_applied_from_left_to_right():
    images = to_floats(smooth(8))
    config = config_of("masking,jpeg", masking_rate=0.1)
    by_hand = jpeg(masking(images, KEY, config), KEY, config)
    np.testing.assert_array_equal(corrupt(images, KEY, config), by_hand)
    full = {"masking_rate": 1.0, "salt_and_pepper_rate": 1.0}
    result = corrupted(config_of("salt_and_pepper,masking", **full), images)
    assert set(np.unique(result)) == {0.0}
    result = corrupted(config_of("masking,salt_and_pepper", **full), images)
    assert set(np.unique(result)) == {0.0, 1.0}


def test_a_repeated_corruption_is_independent_of_the_first():
    images = gray(500)
    twice = config_of("masking,masking", masking_rate=0.3)
    masked = (corrupted(twice, images) == 0).mean()
    assert is_share(masked, 1 - 0.7**2, 500 * 784)
    noise = corrupted(config_of("gaussian,gaussian", noise_stddev=0.05), images) - 0.5
    assert abs(noise.var() / (2 * 0.05**2) - 1) < 5 * math.sqrt(2 / noise.size)
    drawn = config_of("gaussian,gaussian", noise_stddev=0.0, noise_stddev_max=0.08)
    levels = (corrupted(drawn, images) - 0.5).std(axis=(1, 2, 3))
    # For two independent levels, uniform in [0, m], the sum of squares has mean 2/3 m^2
    # and variance 8/45 m^4. For one level used twice, the variance is 16/45 m^4.
    squares = levels**2 / 0.08**2
    assert squares.mean() == pytest.approx(2 / 3, abs=0.1)
    assert squares.var() == pytest.approx(8 / 45, abs=0.04)


def test_corruptions_are_independent_of_each_other():
    images = gray(500)
    config = config_of("salt_and_pepper,masking", salt_and_pepper_rate=0.4)
    result = corrupted(config, images)
    assert is_share((result == 1).mean(), 0.2 * 0.75, result.size)
    assert is_share((result == 0).mean(), 0.2 * 0.75 + 0.25, result.size)
    config = config_of("gaussian,masking", noise_stddev=0.05)
    noise = corrupted(config_of("gaussian", noise_stddev=0.05), images) - 0.5
    is_kept = corrupted(config, images) != 0
    assert abs(np.corrcoef(noise.ravel(), is_kept.ravel())[0, 1]) < 0.01


def test_the_first_corruption_is_the_same_without_others():
    images = to_floats(smooth(8))
    first = corrupted(config_of("gaussian"), images)
    both = corrupted(config_of("gaussian,masking"), images)
    visible = both != 0
    np.testing.assert_array_equal(both[visible], first[visible])


@pytest.mark.parametrize(
    ("config", "text"),
    [
        (Config(), "none"),
        (Config(noise_stddev=0.5), "gaussian (noise_stddev 0.5)"),
        (Config(noise_stddev_max=0.5), "gaussian (noise_stddev_max 0.5)"),
        (
            Config(corruption="jpeg,gaussian", noise_stddev=0.1, noise_stddev_max=0.5),
            "jpeg (jpeg_quality 10), gaussian (noise_stddev 0.1, noise_stddev_max 0.5)",
        ),
        (
            Config(corruption="jpeg", jpeg_quality_max=90),
            "jpeg (jpeg_quality 10, jpeg_quality_max 90)",
        ),
        (Config(corruption="masking", masking_rate=0), "none"),
        (Config(corruption="none"), "none"),
        (
            Config(noise_stddev=0.5, noise_clip=False),
            "gaussian (noise_stddev 0.5, not clipped)",
        ),
        (
            Config(noise_stddev=0.5, noise_correlation=0.4),
            "gaussian (noise_stddev 0.5, noise_correlation 0.4)",
        ),
    ],
)
def test_the_description_has_names_and_levels(config, text):
    assert describe(config) == text


@pytest.mark.parametrize("name", sorted(CORRUPTIONS.keys() - {"none"}))
def test_every_corruption_has_a_level_that_describes_it(name):
    assert describe(config_of(name)).startswith(f"{name} (")

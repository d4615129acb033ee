"""Values that contradict each other. test_config.py has the older rules."""

import pytest

from aelab.config import Config
from aelab.errors import UsageError


@pytest.mark.parametrize("later", ["poisson", "jpeg", "masking,jpeg"])
def test_a_corruption_that_needs_a_range_does_not_follow_unclipped_noise(later):
    """Their tables have no entry for a value outside [0, 1]."""
    unclipped = {"noise_stddev": 0.1, "noise_clip": False}
    Config(corruption=f"{later},gaussian,masking,salt_and_pepper", **unclipped)
    with pytest.raises(UsageError, match=r"needs values in \[0, 1\]"):
        Config(corruption=f"gaussian,{later}", **unclipped)


def test_none_stands_for_itself_only():
    assert Config(corruption="none").corruptions() == ("none",)
    with pytest.raises(UsageError, match="none is for images"):
        Config(corruption="none,masking")
    with pytest.raises(UsageError) as error:
        Config(corruption="none", noise_stddev=0.1, noise_clip=False)
    for flag in ("--noise_stddev=0.1", "--noise_clip=false"):  # all at once
        assert f"{flag} contradicts --corruption=none" in str(error.value)


UNCLIPPED = {"noise_stddev": 0.1, "noise_clip": False}
FOLDER = {"dataset": "images", "data_dir": "a"}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"supervision": "noise2noise", "corruption": "none"}, "needs clean images"),
        ({"supervision": "noise2noise", **UNCLIPPED}, "have no cross-entropy"),
        (
            {"supervision": "noise2void", "noise_stddev": 0.1},
            "needs --loss=mse, not bce",
        ),
        ({"supervision": "noise2noise", "corruption": "jpeg"}, "not 0 on average"),
        ({"supervision": "noise2noise", "corruption": "masking"}, "not 0 on average"),
        (
            {"supervision": "noise2void", "corruption": "poisson,salt_and_pepper"},
            "contradicts --corruption=salt_and_pepper",
        ),
        (
            {**FOLDER, "supervision": "noise2void", "max_bad_files": 1, **UNCLIPPED},
            "two noisy values per pixel",
        ),
        ({"supervision": "noise2noise"}, "needs --noise_stddev above 0$"),
        (
            {"supervision": "noise2void", "loss": "mse"},
            "--corruption=none is for images that are noisy already",
        ),
        (
            {"supervision": "noise2void", "loss": "mse", "max_shift": 1, **UNCLIPPED},
            "a hidden pixel would be seen",
        ),
        (
            {
                "supervision": "noise2void",
                "loss": "mse",
                "noise_correlation": 0.5,
                **UNCLIPPED,
            },
            "a hidden pixel would be seen in its neighbors",
        ),
        ({"noise_correlation": 0.5}, "needs --noise_stddev or --noise_stddev_max"),
    ],
)
def test_noisy_targets_fit_the_noise_and_the_loss(values, message):
    with pytest.raises(UsageError, match=message):
        Config(**values)


def test_noisy_targets_are_allowed():
    for supervision in ("noise2noise", "noise2void"):
        config = Config(supervision=supervision, loss="mse", **UNCLIPPED)
        assert config.supervision == supervision
    noisy_files = Config(
        supervision="noise2void",
        loss="mse",
        corruption="none",
        max_bad_files=1,
        **FOLDER,
    )
    assert noisy_files.corruption == "none"
    clipped = Config(supervision="noise2noise", noise_stddev=0.1)  # in [0, 1]
    assert clipped.noise_clip


def test_whole_pictures_are_as_large_as_the_window_of_ssim():
    Config(image_size=11, whole_pictures=True, **FOLDER)
    with pytest.raises(UsageError, match="--image_size of at least 11"):
        Config(image_size=10, whole_pictures=True, **FOLDER)

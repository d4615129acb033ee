"""Choices of a run that contradict each other."""

from collections.abc import Mapping
from typing import Any

from aelab.config import fields
from aelab.config.registry import SOURCES
from aelab.errors import UsageError
from aelab.metric_info import SSIM_WINDOW

Values = Mapping[str, Any]  # of all fields, by name
_TABLES = ("poisson", "jpeg")  # they look a value in [0, 1] up in a table
_BIASED = ("salt_and_pepper", "masking", "jpeg")  # the mean is not the clean value


def check_together(values: Values, declared: Mapping[str, fields.Field]) -> None:
    """Raises UsageError if values, each of them allowed, contradict each other."""
    useless = [_useless(values, each) for each in declared.values()]
    if any(useless):
        raise UsageError("\n  ".join(filter(None, useless)))
    _check_data(values)
    _check_noise(values)
    _check_supervision(values)
    if values["virtual_cpus"] and values["strategy"] == "multi_worker":
        raise UsageError(
            f"--virtual_cpus={values['virtual_cpus']} contradicts "
            "--strategy=multi_worker, whose workers use their GPUs or one CPU each"
        )


def unused(values: Values, declared: fields.Field) -> str:
    """The field whose choice leaves `declared` without effect, "" if it has one."""
    for owner, users in declared.metadata["only_with"].items():
        choice = values[owner]
        if not fields.is_function(choice) and not set(choice.split(",")) & {*users}:
            return str(owner)
    return ""


def _useless(values: Values, declared: fields.Field) -> str:
    """A sentence about a field that is set and that the other choices do not use."""
    value = values[declared.name]
    is_usual = value in (declared.default, declared.metadata["earlier"])
    owner = "" if is_usual else unused(values, declared)
    if not owner:
        return ""
    users = declared.metadata["only_with"][owner]
    names = " and ".join(f"--{owner}={user}" for user in users)
    verb = "use" if len(users) > 1 else "uses"
    return (
        f"--{declared.name}={fields.to_text(value)} contradicts "
        f"--{owner}={values[owner]}: only {names} {verb} it"
    )


def _check_data(values: Values) -> None:
    """Raises UsageError unless there is data to train and to evaluate on."""
    if SOURCES[values["dataset"]].reads_data_dir and not values["data_dir"]:
        raise UsageError(
            f"--dataset={values['dataset']} needs --data_dir, the folder of its files"
        )
    if values["whole_pictures"] and values["image_size"] < SSIM_WINDOW:
        raise UsageError(
            f"--whole_pictures=true needs --image_size of at least {SSIM_WINDOW}, the "
            f"window of SSIM, not {values['image_size']}"
        )
    if not (values["test_share"] or values["validation_examples"]):
        raise UsageError(
            "--test_share=0 leaves no pictures to evaluate on: give "
            "--validation_examples, a number of pictures that training leaves out"
        )


def _check_noise(values: Values) -> None:
    """Raises UsageError unless corruptions and their levels fit together."""
    for name in ("noise_stddev", "jpeg_quality"):
        lowest, highest = values[name], values[f"{name}_max"]
        if 0 < highest < lowest:
            raise UsageError(
                f"--{name}_max={highest} must be at least --{name}={lowest}, or 0 for "
                "one level"
            )
    for name in ("mirror", "turn", "max_shift"):
        if values["fixed_noise"] and (value := values[name]):
            raise UsageError(
                f"--fixed_noise=true contradicts --{name}={fields.to_text(value)}, "
                "which changes the images in each epoch"
            )
    names = values["corruption"].split(",")
    is_noisy = values["noise_stddev"] or values["noise_stddev_max"]
    if "gaussian" in names and len(names) > 1 and not is_noisy:
        raise UsageError(
            f"--corruption={values['corruption']} needs --noise_stddev or "
            "--noise_stddev_max above 0; without such noise leave gaussian out"
        )
    if (correlation := values["noise_correlation"]) and not is_noisy:
        raise UsageError(
            f"--noise_correlation={correlation} needs --noise_stddev or "
            "--noise_stddev_max above 0"
        )
    if "none" in names and len(names) > 1:
        raise UsageError(
            f"--corruption={values['corruption']} contradicts itself: none is for "
            "images that are not corrupted"
        )
    if not values["noise_clip"]:
        later = names[names.index("gaussian") + 1 :]
        if tables := [name for name in later if name in _TABLES]:
            raise UsageError(
                f"--noise_clip=false contradicts --corruption={values['corruption']}: "
                f"{tables[0]} needs values in [0, 1]"
            )


def _check_supervision(values: Values) -> None:
    """Raises UsageError unless noisy targets fit the noise and the loss."""
    supervision, names = values["supervision"], values["corruption"].split(",")
    flag, is_blind = f"--supervision={supervision}", supervision == "noise2void"
    if supervision == "clean":
        return
    if not is_blind and names == ["none"]:
        raise UsageError(
            f"{flag} contradicts --corruption=none: a second noisy draw needs clean "
            "images; for images that are noisy already use --supervision=noise2void"
        )
    if biased := [name for name in names if name in _BIASED]:
        raise UsageError(
            f"{flag} contradicts --corruption={biased[0]}, whose errors are not 0 on "
            "average: the network would learn them"
        )
    if is_blind and names != ["none"] and (bad_files := values["max_bad_files"]):
        raise UsageError(
            f"{flag} contradicts --max_bad_files={bad_files} where noise is added: a "
            "picture that replaces another would have two noisy values per pixel"
        )
    if "gaussian" in names and not (
        values["noise_stddev"] or values["noise_stddev_max"]
    ):
        already = "; --corruption=none is for images that are noisy already" * is_blind
        raise UsageError(f"{flag} needs --noise_stddev above 0{already}")
    if values["loss"] == "bce" and not values["noise_clip"]:
        raise UsageError(
            f"{flag} contradicts --loss=bce with --noise_clip=false: targets outside "
            "[0, 1] have no cross-entropy; use --loss=mse"
        )
    if is_blind and values["loss"] != "mse":
        raise UsageError(f"{flag} needs --loss=mse, not {values['loss']}")
    if is_blind and (correlation := values["noise_correlation"]):
        raise UsageError(
            f"{flag} contradicts --noise_correlation={correlation}: the noise of a "
            "hidden pixel would be seen in its neighbors"
        )
    if is_blind and values["max_shift"]:
        raise UsageError(
            f"{flag} contradicts --max_shift={values['max_shift']}, which repeats "
            "pixels of the border: a hidden pixel would be seen next to itself"
        )

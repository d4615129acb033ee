"""One run, described: every choice that a user can make, checked when it is built.

The standard library only, so that `--help` and a bad flag are answered at once. That
is also why the names that may be chosen stand here as `choices`; a test holds each
list equal to the registry that it names.
"""

import dataclasses
import json
import math
import re
import sys
from dataclasses import dataclass
from typing import Any

from aelab.errors import UsageError


def _field(
    default: int | float | str,
    help: str,
    *,
    choices: tuple[str, ...] | tuple[int, ...] = (),
    is_list: bool = False,
    minimum: float | None = None,
    above: float | None = None,
    maximum: float | None = None,
    level_of: str = "",
    changes_numbers: bool = True,
) -> Any:
    """A field with its help, what it may be, and whether a resumed run may change it.

    Args:
      default: value when nothing is given; its type is the field's.
      help: one sentence for `--help`.
      choices: allowed values, all if empty.
      is_list: whether several of the choices may be given, joined by commas.
      minimum: smallest allowed number.
      above: the number must be larger than this.
      maximum: largest allowed number.
      level_of: the corruption whose strength it is.
      changes_numbers: whether the trained weights or the logged figures depend on it.
    """
    metadata = {
        "help": help,
        "choices": choices,
        "is_list": is_list,
        "minimum": minimum,
        "above": above,
        "maximum": maximum,
        "level_of": level_of,
        "changes_numbers": changes_numbers,
    }
    return dataclasses.field(default=default, metadata=metadata)


@dataclass(frozen=True)
class Config:
    """What one run does. Every field is a flag of `scripts/train.py`.

    Raises:
      UsageError: a value of the wrong type or out of its range, an unknown name, or
        values that contradict each other.
    """

    dataset: str = _field(
        "synthetic",
        "Where the images come from.",
        choices=("synthetic", "fashion_mnist", "idx", "images"),
    )
    data_dir: str = _field(
        "",
        "Folder of the data files, for --dataset=idx, or of pictures (PNG, JPEG, BMP, "
        "GIF, WebP; sub-folders too), for --dataset=images.",
        # The images' fingerprint stands for it; of pictures, their names and sizes do.
        changes_numbers=False,
    )
    image_size: int = _field(
        64,
        "Sides in pixels of the squares cut out of the pictures of --dataset=images: "
        "at random to train on, the middle ones to evaluate on.",
        minimum=1,
        maximum=2**14,
    )
    image_channels: int = _field(
        3, "1: the pictures of --dataset=images in gray; 3: in colour.", choices=(1, 3)
    )
    max_bad_files: int = _field(
        0,
        "Of the pictures of --dataset=images to train on, and likewise of those to "
        "evaluate on, leave out up to N that can't be read or are too small.",
        minimum=0,
        changes_numbers=False,  # a run in which it matters has ended
    )
    train_examples: int = _field(
        0,
        "Use the first N training images; 0 = all there are.",
        minimum=0,
        maximum=2**31 - 1,
    )
    eval_examples: int = _field(
        0,
        "Use the first N evaluation images; 0 = all there are.",
        minimum=0,
        maximum=2**31 - 1,
    )
    corruption: str = _field(
        "gaussian",
        "What is done to the model's input, from left to right.",
        choices=("gaussian", "salt_and_pepper", "masking", "poisson", "jpeg"),
        is_list=True,
    )
    noise_stddev: float = _field(
        0.0,
        "Standard deviation of the noise added to pixels in [0, 1]; 0 = none.",
        minimum=0,
        maximum=100,
        level_of="gaussian",
    )
    noise_stddev_max: float = _field(
        0.0,
        "Each image draws its level uniformly from --noise_stddev to this; 0 = all "
        "have --noise_stddev.",
        minimum=0,
        maximum=100,
        level_of="gaussian",
    )
    salt_and_pepper_rate: float = _field(
        0.1,
        "Share of the values that --corruption=salt_and_pepper sets to 0 or 1.",
        minimum=0,
        maximum=1,
        level_of="salt_and_pepper",
    )
    masking_rate: float = _field(
        0.25,
        "Share of the values that --corruption=masking sets to 0.",
        minimum=0,
        maximum=1,
        level_of="masking",
    )
    poisson_peak: float = _field(
        10.0,
        "Mean photons in a pixel of value 1, for --corruption=poisson; fewer are "
        "noisier.",
        minimum=0.01,
        maximum=1000,
        level_of="poisson",
    )
    jpeg_quality: int = _field(
        10,
        "Quality of the JPEG files of --corruption=jpeg, as libjpeg counts it.",
        minimum=1,
        maximum=100,
        level_of="jpeg",
    )
    mirror: str = _field(
        "false",
        "Mirror half of the training images, left to right, others in each epoch.",
        choices=("false", "true"),
    )
    max_shift: int = _field(
        0,
        "Shift training images by up to N pixels in each direction, otherwise in each "
        "epoch; what comes in at an edge is that edge repeated.",
        minimum=0,
        maximum=2**12,
    )
    model: str = _field(
        "conv", "Network to train.", choices=("dense", "conv", "unet", "codec")
    )
    encoding_dim: int = _field(
        32,
        "Numbers in the code of --model=dense and --model=codec.",
        minimum=1,
        maximum=2**20,
    )
    code_activation: str = _field(
        "relu",
        "Activation of the code of --model=dense.",
        choices=("relu", "linear"),
    )
    stock_layers: str = _field(
        "false",
        "Build convolutional networks of Keras' own layers alone, which are slower and "
        "equal but for rounding.",
        choices=("false", "true"),
        changes_numbers=False,  # beyond rounding
    )
    l1_activity: float = _field(
        0.0, "Weight of the L1 penalty on an image's code.", minimum=0
    )
    rate_weight: float = _field(
        0.0,
        "Weight in the loss of the bytes that an image's code takes, for "
        "--model=codec.",
        minimum=0,
    )
    loss: str = _field("bce", "Reconstruction loss.", choices=("bce", "mse", "log_mse"))
    optimizer: str = _field(
        "adam",
        "Keras optimizer.",
        choices=(
            *("adadelta", "adafactor", "adagrad", "adam", "adamax", "adamw", "ftrl"),
            *("lamb", "lion", "muon", "nadam", "rmsprop", "sgd"),
        ),
    )
    learning_rate: float = _field(1e-3, "Learning rate, at its peak.", above=0)
    learning_rate_schedule: str = _field(
        "constant",
        "Learning rate after the warm-up: constant, or down to 0 along a cosine.",
        choices=("constant", "cosine"),
    )
    warmup_steps: int = _field(
        0, "Steps in which the learning rate rises linearly from 0.", minimum=0
    )
    weight_decay: float = _field(
        0.004,
        "How much of each weight, biases too, a step of --optimizer=adamw takes away, "
        "times the learning rate.",
        minimum=0,
        maximum=1e6,
    )
    gradient_clip_norm: float = _field(
        0.0,
        "Scale the whole gradient down to this Euclidean norm where it is longer; "
        "0 = never.",
        minimum=0,
    )
    batch_size: int = _field(
        128, "Images a training step, over all devices.", minimum=1, maximum=2**20
    )
    epochs: int = _field(
        10, "Train until every image was seen this often.", minimum=1, maximum=2**30
    )
    train_steps: int = _field(
        0,
        "Train this many steps instead of --epochs; 0 = by --epochs.",
        minimum=0,
        maximum=2**40,
    )
    early_stopping_patience: int = _field(
        0,
        "Stop after this many epochs without a better evaluation loss; 0 = never.",
        minimum=0,
        changes_numbers=False,
    )
    early_stopping_min_delta: float = _field(
        0.0, "How much lower a loss must be to count as better.", minimum=0
    )
    seed: int = _field(
        0, "All that is random follows from it.", minimum=0, maximum=2**31 - 1
    )
    precision: str = _field(
        "float32",
        "Arithmetic of the network; weights and loss are float32 in any case.",
        choices=("float32", "mixed_bfloat16", "mixed_float16"),
    )
    strategy: str = _field(
        "single",
        "Devices: one, all of this machine, or those of several workers (TF_CONFIG or "
        "Slurm).",
        choices=("single", "mirrored", "multi_worker"),
        changes_numbers=False,  # beyond rounding
    )
    devices: str = _field(
        "",
        "Devices of --strategy=mirrored, as GPU:0,GPU:1; empty = all GPUs, or all CPUs "
        "where there is none.",
        changes_numbers=False,
    )
    virtual_cpus: int = _field(
        0,
        "Split the CPU into N logical devices and leave GPUs alone, to rehearse "
        "--strategy=mirrored; 0 = do not.",
        minimum=0,
        maximum=64,
        changes_numbers=False,
    )
    jit_compile: str = _field(
        "auto",
        "Compile forward and backward pass with XLA; auto = where it was measured to "
        "be faster.",
        choices=("auto", "true", "false"),
        changes_numbers=False,
    )
    steps_per_loop: int = _field(
        20, "Training steps a compiled call.", minimum=1, changes_numbers=False
    )
    log_every_steps: int = _field(
        100,
        "Write the training figures every N steps; 0 = at evaluations only.",
        minimum=0,
        changes_numbers=False,
    )
    profile_steps: str = _field(
        "",
        "Write a TensorBoard profile of the steps from A to B, as A:B; empty = none.",
        changes_numbers=False,
    )
    eval_every_epochs: int = _field(
        1, "Evaluate every N epochs, and at the end.", minimum=1, changes_numbers=False
    )
    checkpoint_every_steps: int = _field(
        0,
        "Save every N steps besides at evaluations; 0 = do not.",
        minimum=0,
        changes_numbers=False,
    )
    checkpoint_every_minutes: float = _field(
        10.0,
        "Save when the last save is N minutes ago; 0 = do not.",
        minimum=0,
        changes_numbers=False,
    )
    keep_checkpoints: int = _field(
        3,
        "How many of the latest checkpoints to keep, should the newest get damaged.",
        minimum=1,
        changes_numbers=False,
    )

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            _check_field(field, getattr(self, field.name))
        self.profiled_steps()
        self._check_levels()
        reads_folder = self.dataset in ("idx", "images")
        if reads_folder and not self.data_dir:
            raise UsageError(
                f"--dataset={self.dataset} needs --data_dir, the folder of its files"
            )
        if self.data_dir and not reads_folder:
            raise UsageError(
                f"--data_dir={self.data_dir} contradicts --dataset={self.dataset}, "
                "which reads no folder; --dataset=idx and --dataset=images do"
            )
        if self.devices and self.strategy != "mirrored":
            raise UsageError(
                f"--devices={self.devices} contradicts --strategy={self.strategy}: "
                "only --strategy=mirrored takes it"
            )
        if self.virtual_cpus and self.strategy == "multi_worker":
            raise UsageError(
                f"--virtual_cpus={self.virtual_cpus} contradicts "
                "--strategy=multi_worker, whose workers use their GPUs or one CPU each"
            )
        for name, (owner, *values) in _ONLY_WITH.items():
            given, chosen = getattr(self, name), getattr(self, owner)
            if given != _DEFAULTS[name] and chosen not in values:
                owners = " and ".join(f"--{owner}={value}" for value in values)
                raise UsageError(
                    f"--{name}={given} contradicts --{owner}={chosen}: "
                    f"only {owners} has it"
                )

    def _check_levels(self) -> None:
        """Raises UsageError unless corruptions and their levels fit together."""
        names, given = self.corruptions(), f"--corruption={self.corruption}"
        for field in dataclasses.fields(self):
            value, user = getattr(self, field.name), field.metadata["level_of"]
            if user and user not in names and value != field.default:
                raise UsageError(
                    f"--{field.name}={value} contradicts {given}: only {user} has it"
                )
        if 0 < self.noise_stddev_max < self.noise_stddev:
            raise UsageError(
                f"--noise_stddev_max={self.noise_stddev_max} must be at least "
                f"--noise_stddev={self.noise_stddev}, or 0 for one level"
            )
        is_noisy = self.noise_stddev or self.noise_stddev_max
        if "gaussian" in names and len(names) > 1 and not is_noisy:
            raise UsageError(
                f"{given} needs --noise_stddev or --noise_stddev_max above 0; without "
                "such noise leave gaussian out"
            )

    def sends_integers(self) -> bool:
        """Whether the model rounds its code, and learns how many bytes that takes."""
        return self.model == "codec"

    def corruptions(self) -> tuple[str, ...]:
        """The names in `corruption`, in the order in which they are applied."""
        return tuple(self.corruption.split(","))

    def profiled_steps(self) -> tuple[int, int]:
        """After which step the profile begins, and which is its last; 0, 0 for none.

        Raises:
          UsageError: `profile_steps` is no such pair.
        """
        if not self.profile_steps:
            return 0, 0
        first, _, last = self.profile_steps.partition(":")
        is_pair = all(re.fullmatch("[0-9]{1,12}", number) for number in (first, last))
        if not is_pair or int(first) >= int(last):
            raise UsageError(
                "--profile_steps must be two steps, the smaller first, as 100:120; "
                f"not {self.profile_steps!r}"
            )
        return int(first), int(last)


FIELDS = {field.name: field for field in dataclasses.fields(Config)}
_DEFAULTS = {name: field.default for name, field in FIELDS.items()}
# Fields that mean something with one choice of another field alone.
_ONLY_WITH = {
    "encoding_dim": ("model", "dense", "codec"),
    "code_activation": ("model", "dense"),
    "rate_weight": ("model", "codec"),
    "weight_decay": ("optimizer", "adamw"),
    "image_size": ("dataset", "images"),
    "image_channels": ("dataset", "images"),
    "max_bad_files": ("dataset", "images"),
}
_KINDS: dict[type, str] = {int: "an integer", float: "a number", str: "a text"}


def field_type(name: str) -> type:
    """The type of a field's value: int, float or str."""
    return type(FIELDS[name].default)


def parse_field(name: str, text: str) -> int | float | str:
    """The value that `text` means for a field.

    Raises:
      UsageError: `text` is no number where one is needed, or not an allowed one.
    """
    kind = field_type(name)
    try:
        value: int | float | str = kind(text)
    except ValueError:
        message = f"--{name} must be {_KINDS[kind]}, not {text!r}"
        raise UsageError(message) from None
    _check_field(FIELDS[name], value)
    return value


def _check_field(field: "dataclasses.Field[Any]", value: Any) -> None:
    """Raises UsageError unless `value` has the field's type and is allowed."""
    kind = type(field.default)
    fits = isinstance(value, int | float if kind is float else kind)
    if isinstance(value, bool) or not fits:
        raise UsageError(f"--{field.name} must be {_KINDS[kind]}, not {value!r}")
    allowed = field.metadata
    values = value.split(",") if allowed["is_list"] else [value]
    if allowed["choices"] and not set(values) <= set(allowed["choices"]):
        known = ", ".join(map(str, allowed["choices"]))
        several = ", or several joined by commas" if allowed["is_list"] else ""
        raise UsageError(
            f"--{field.name} must be one of {known}{several}; not {value!r}"
        )
    if kind is str:
        if not value.isprintable() or value != value.strip():
            raise UsageError(
                f"--{field.name} must be printable, without spaces around it, "
                f"not {value!r}"
            )
        return
    limits = {
        "a finite number": not abs(value) <= sys.float_info.max,
        f"at least {allowed['minimum']}": value < _or(allowed["minimum"], -math.inf),
        f"above {allowed['above']}": value <= _or(allowed["above"], -math.inf),
        f"at most {allowed['maximum']}": value > _or(allowed["maximum"], math.inf),
    }
    for what, broken in limits.items():
        if broken:
            raise UsageError(f"--{field.name} must be {what}, not {value}")


def _or(limit: float | None, otherwise: float) -> float:
    return otherwise if limit is None else limit


def parse_object(text: str, path: str) -> dict[str, Any]:
    """The JSON object that `text`, the content of the file `path`, holds.

    Raises:
      UsageError: it holds none.
    """
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path} is not JSON: {error}") from None
    if not isinstance(values, dict):
        raise UsageError(f"{path} must hold a JSON object")
    return values


def from_json(text: str, path: str) -> Config:
    """The configuration in a run directory's `config.json`.

    Args:
      text: the file's content; keys that are no fields (versions, data) are passed by.
      path: the file's name, for the message.

    Raises:
      UsageError: not JSON, or a field is missing or bad.
    """
    values = parse_object(text, path)
    missing = [name for name in FIELDS if name not in values]
    if missing:
        raise UsageError(f"{path} lacks {', '.join(missing)}")
    try:
        return Config(**{name: values[name] for name in FIELDS})
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from None


def differences(old: Config, new: Config) -> list[str]:
    """What a run of `old` can't go on with, a line each: `--name: old -> new`.

    A longer run and other intervals are fine, as no step changes by them. A cosine
    schedule stretches with the run, so there the length counts as well.
    """
    fixed = {n for n, field in FIELDS.items() if field.metadata["changes_numbers"]}
    if old.learning_rate_schedule == "constant":
        fixed -= {"epochs", "train_steps"}
    before, after = dataclasses.asdict(old), dataclasses.asdict(new)
    return [
        f"--{name}: {before[name]} -> {after[name]}"
        for name in FIELDS
        if name in fixed and before[name] != after[name]
    ]

"""One run, described: every choice that a user can make, checked when it is built.

The standard library only, so that `--help` and a bad flag are answered at once. That
is also why the names that may be chosen stand here as `choices`; a test holds each
list equal to the registry that it names.
"""

import dataclasses
import json
import re
from dataclasses import dataclass
from typing import Any

from aelab.config import fields
from aelab.errors import UsageError


@dataclass(frozen=True)
class Config:
    """What one run does. Every field is a flag of `scripts/train.py`.

    Raises:
      UsageError: a value of the wrong type or out of its range, an unknown name, or
        values that contradict each other.
    """

    dataset: str = fields.field(
        "synthetic",
        "Where the images come from.",
        choices=("synthetic", "fashion_mnist", "idx", "images"),
    )
    data_dir: str = fields.field(
        "",
        "Folder of the data files, for --dataset=idx, or of pictures (PNG, JPEG, BMP, "
        "GIF, WebP; sub-folders too), for --dataset=images.",
        # The images' fingerprint stands for it; of pictures, their names and sizes do.
        changes_numbers=False,
    )
    image_size: int = fields.field(
        64,
        "Sides in pixels of the squares cut out of the pictures of --dataset=images: "
        "at random to train on, the middle ones to evaluate on.",
        minimum=1,
        maximum=2**14,
    )
    image_channels: int = fields.field(
        3, "1: the pictures of --dataset=images in gray; 3: in colour.", choices=(1, 3)
    )
    max_bad_files: int = fields.field(
        0,
        "Of the pictures of --dataset=images to train on, and likewise of those to "
        "evaluate on, leave out up to N that can't be read or are too small.",
        minimum=0,
        changes_numbers=False,  # a run in which it matters has ended
    )
    train_examples: int = fields.field(
        0,
        "Use the first N training images; 0 = all there are.",
        minimum=0,
        maximum=2**31 - 1,
    )
    eval_examples: int = fields.field(
        0,
        "Use the first N evaluation images; 0 = all there are.",
        minimum=0,
        maximum=2**31 - 1,
    )
    corruption: str = fields.field(
        "gaussian",
        "What is done to the model's input, from left to right.",
        choices=("gaussian", "salt_and_pepper", "masking", "poisson", "jpeg"),
        is_list=True,
    )
    noise_stddev: float = fields.field(
        0.0,
        "Standard deviation of the noise added to pixels in [0, 1]; 0 = none.",
        minimum=0,
        maximum=100,
        level_of="gaussian",
    )
    noise_stddev_max: float = fields.field(
        0.0,
        "Each image draws its level uniformly from --noise_stddev to this; 0 = all "
        "have --noise_stddev.",
        minimum=0,
        maximum=100,
        level_of="gaussian",
    )
    salt_and_pepper_rate: float = fields.field(
        0.1,
        "Share of the values that --corruption=salt_and_pepper sets to 0 or 1.",
        minimum=0,
        maximum=1,
        level_of="salt_and_pepper",
    )
    masking_rate: float = fields.field(
        0.25,
        "Share of the values that --corruption=masking sets to 0.",
        minimum=0,
        maximum=1,
        level_of="masking",
    )
    poisson_peak: float = fields.field(
        10.0,
        "Mean photons in a pixel of value 1, for --corruption=poisson; fewer are "
        "noisier.",
        minimum=0.01,
        maximum=1000,
        level_of="poisson",
    )
    jpeg_quality: int = fields.field(
        10,
        "Quality of the JPEG files of --corruption=jpeg, as libjpeg counts it.",
        minimum=1,
        maximum=100,
        level_of="jpeg",
    )
    mirror: str = fields.field(
        "false",
        "Mirror half of the training images, left to right, others in each epoch.",
        choices=("false", "true"),
    )
    max_shift: int = fields.field(
        0,
        "Shift training images by up to N pixels in each direction, otherwise in each "
        "epoch; what comes in at an edge is that edge repeated.",
        minimum=0,
        maximum=2**12,
    )
    model: str = fields.field(
        "conv", "Network to train.", choices=("dense", "conv", "unet", "codec")
    )
    encoding_dim: int = fields.field(
        32,
        "Numbers in the code of --model=dense and --model=codec.",
        minimum=1,
        maximum=2**20,
    )
    code_activation: str = fields.field(
        "relu",
        "Activation of the code of --model=dense.",
        choices=("relu", "linear"),
    )
    stock_layers: str = fields.field(
        "false",
        "Build convolutional networks of Keras' own layers alone, which are slower and "
        "equal but for rounding.",
        choices=("false", "true"),
        changes_numbers=False,  # beyond rounding
    )
    l1_activity: float = fields.field(
        0.0, "Weight of the L1 penalty on an image's code.", minimum=0
    )
    rate_weight: float = fields.field(
        0.0,
        "Weight in the loss of the bytes that an image's code takes, for "
        "--model=codec.",
        minimum=0,
    )
    loss: str = fields.field(
        "bce", "Reconstruction loss.", choices=("bce", "mse", "log_mse")
    )
    optimizer: str = fields.field(
        "adam",
        "Keras optimizer.",
        choices=(
            *("adadelta", "adafactor", "adagrad", "adam", "adamax", "adamw", "ftrl"),
            *("lamb", "lion", "muon", "nadam", "rmsprop", "sgd"),
        ),
    )
    learning_rate: float = fields.field(1e-3, "Learning rate, at its peak.", above=0)
    learning_rate_schedule: str = fields.field(
        "constant",
        "Learning rate after the warm-up: constant, or down to 0 along a cosine.",
        choices=("constant", "cosine"),
    )
    warmup_steps: int = fields.field(
        0, "Steps in which the learning rate rises linearly from 0.", minimum=0
    )
    weight_decay: float = fields.field(
        0.004,
        "How much of each weight, biases too, a step of --optimizer=adamw takes away, "
        "times the learning rate.",
        minimum=0,
        maximum=1e6,
    )
    gradient_clip_norm: float = fields.field(
        0.0,
        "Scale the whole gradient down to this Euclidean norm where it is longer; "
        "0 = never.",
        minimum=0,
    )
    batch_size: int = fields.field(
        128, "Images a training step, over all devices.", minimum=1, maximum=2**20
    )
    epochs: int = fields.field(
        10, "Train until every image was seen this often.", minimum=1, maximum=2**30
    )
    train_steps: int = fields.field(
        0,
        "Train this many steps instead of --epochs; 0 = by --epochs.",
        minimum=0,
        maximum=2**40,
    )
    early_stopping_patience: int = fields.field(
        0,
        "Stop after this many epochs without a better evaluation loss; 0 = never.",
        minimum=0,
        changes_numbers=False,
    )
    early_stopping_min_delta: float = fields.field(
        0.0, "How much lower a loss must be to count as better.", minimum=0
    )
    seed: int = fields.field(
        0, "All that is random follows from it.", minimum=0, maximum=2**31 - 1
    )
    precision: str = fields.field(
        "float32",
        "Arithmetic of the network; weights and loss are float32 in any case.",
        choices=("float32", "mixed_bfloat16", "mixed_float16"),
    )
    strategy: str = fields.field(
        "single",
        "Devices: one, all of this machine, or those of several workers (TF_CONFIG or "
        "Slurm).",
        choices=("single", "mirrored", "multi_worker"),
        changes_numbers=False,  # beyond rounding
    )
    devices: str = fields.field(
        "",
        "Devices of --strategy=mirrored, as GPU:0,GPU:1; empty = all GPUs, or all CPUs "
        "where there is none.",
        changes_numbers=False,
    )
    virtual_cpus: int = fields.field(
        0,
        "Split the CPU into N logical devices and leave GPUs alone, to rehearse "
        "--strategy=mirrored; 0 = do not.",
        minimum=0,
        maximum=64,
        changes_numbers=False,
    )
    jit_compile: str = fields.field(
        "auto",
        "Compile training with XLA; auto = where it was measured to be faster.",
        choices=("auto", "true", "false"),
        changes_numbers=False,
    )
    steps_per_loop: int = fields.field(
        20,
        "Training steps a compiled call.",
        minimum=1,
        maximum=2**31 - 1,
        changes_numbers=False,
    )
    log_every_steps: int = fields.field(
        100,
        "Write the training figures every N steps; 0 = at evaluations only.",
        minimum=0,
        changes_numbers=False,
    )
    profile_steps: str = fields.field(
        "",
        "Write a TensorBoard profile of the steps from A to B, as A:B; empty = none.",
        changes_numbers=False,
    )
    eval_every_epochs: int = fields.field(
        1, "Evaluate every N epochs, and at the end.", minimum=1, changes_numbers=False
    )
    checkpoint_every_steps: int = fields.field(
        0,
        "Save every N steps besides at evaluations; 0 = do not.",
        minimum=0,
        changes_numbers=False,
    )
    checkpoint_every_minutes: float = fields.field(
        10.0,
        "Save when the last save is N minutes ago; 0 = do not.",
        minimum=0,
        changes_numbers=False,
    )
    keep_checkpoints: int = fields.field(
        3,
        "How many of the latest checkpoints to keep, should the newest get damaged.",
        minimum=1,
        changes_numbers=False,
    )

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            fields.check(field, getattr(self, field.name))
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


def field_type(name: str) -> type:
    """The type of a field's value: int, float or str."""
    return fields.type_of(FIELDS[name])


def parse_field(name: str, text: str) -> int | float | str:
    """The value that `text` means for a field.

    Raises:
      UsageError: `text` is no number where one is needed, or not an allowed one.
    """
    return fields.parse(FIELDS[name], text)


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

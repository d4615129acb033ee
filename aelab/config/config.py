"""`Config`: every choice that a user can make for a run, checked when it is built.

The standard library only, so that `--help` and a bad flag are answered at once.
"""

import dataclasses
import functools
import re
from dataclasses import dataclass

from aelab.config import fields
from aelab.config.contradictions import check_together, unused
from aelab.config.fields import field
from aelab.config.optimizer_args import parse as parse_optimizer_args
from aelab.config.registry import (
    CORRUPTIONS,
    LOSSES,
    MODELS,
    OPTIMIZERS,
    SOURCES,
)
from aelab.errors import UsageError

# A field that changes neither the trained weights nor the logged metrics.
setting = functools.partial(field, changes_numbers=False)
_FOLDER_SOURCES = tuple(name for name, s in SOURCES.items() if s.reads_data_dir)


@dataclass(frozen=True)
class Config:
    """The configuration of one run. Every field is a flag of `scripts/train.py`.

    Raises:
      UsageError: a value of the wrong type or out of its range, an unknown name, or
        values that contradict each other.
    """

    dataset: str = field("synthetic", "Where the images come from.", choices=SOURCES)
    data_dir: str = field(
        "",
        "Folder of the IDX files (--dataset=idx) or of pictures, sub-folders included "
        "(--dataset=images).",
        only_with={"dataset": _FOLDER_SOURCES},
        changes_numbers=False,  # the fingerprint of the images is compared instead
    )
    image_size: int = field(
        64,
        "Side length, in pixels, of the square crops taken from the pictures of "
        "--dataset=images: random crops for training, centered ones for evaluation.",
        minimum=1,
        maximum=2**14,
        only_with={"dataset": ("images",)},
    )
    image_channels: int = field(
        3,
        "Channels of the pictures of --dataset=images: 1 for gray, 3 for color.",
        choices=(1, 3),
        only_with={"dataset": ("images",)},
    )
    white_level: int = field(
        0,
        "The value that counts as 1 in 16-bit pictures of --dataset=images, for "
        "example 4095 for 12 bits; 0 = the largest value of the file's type.",
        maximum=65535,
        only_with={"dataset": ("images",)},
    )
    image_bits: int = field(
        16,
        "Bits per channel of 16-bit pictures of --dataset=images that are used: 16, or "
        "the upper 8, as in release 0.1.0.",
        choices=(8, 16),
        only_with={"dataset": ("images",)},
        earlier=8,
    )
    cache_mb: int = setting(
        512,
        "Megabytes of memory for decoded pictures of --dataset=images, and as many for "
        "those that --supervision=noise2void adds noise to; others are decoded again "
        "each time.",
        maximum=2**20,
        only_with={"dataset": ("images",)},
    )
    whole_pictures: bool = field(
        False,
        "Evaluate, while training, on whole pictures of --dataset=images, one at a "
        "time, and not on squares from their centers.",
        only_with={"dataset": ("images",)},
    )
    split_by: str = field(
        "file",
        "What of --dataset=images stays together in the training, validation or test "
        "part: a file, or a sub-folder of --data_dir with all its pictures.",
        choices=("file", "folder"),
        only_with={"dataset": ("images",)},
    )
    test_share: float = field(
        0.1,
        "Share of the pictures of --dataset=images that is the test part, by a hash of "
        "the path; 0 = none.",
        maximum=1,
        only_with={"dataset": ("images",)},
    )
    max_bad_files: int = field(
        0,
        "Tolerate up to N unreadable or too small pictures of --dataset=images in the "
        "test part, and up to N in the rest.",
        only_with={"dataset": ("images",)},
        changes_numbers=False,  # a run in which it matters has ended
    )
    validation_examples: int = field(
        0,
        "Hold the last N training images out of training, and evaluate on them; only "
        "evaluate.py and rate_distortion.py then read the test images. 0 = evaluate on "
        "the test images. With --split_by=folder at least N, of whole folders.",
        maximum=2**31 - 1,
    )
    train_examples: int = field(
        0, "Train on the first N training images only; 0 = all.", maximum=2**31 - 1
    )
    eval_examples: int = field(
        0,
        "Evaluate, while training, on the first N images only; 0 = all.",
        maximum=2**31 - 1,
    )
    corruption: str = field(
        "gaussian",
        "Corruptions of the model's input, applied from left to right.",
        choices=CORRUPTIONS,
        is_list=True,
    )
    noise_stddev: float = field(
        0.0,
        "Standard deviation of the Gaussian noise added to pixels in [0, 1], for "
        "example 0.1 or 25/255; 0 = none.",
        maximum=100,
        new_maximum=1,
        hint=fields.LEVEL_HINT,
        only_with={"corruption": ("gaussian",)},
    )
    noise_stddev_max: float = field(
        0.0,
        "Draw the noise level of each image uniformly from --noise_stddev to this "
        "value; 0 = use --noise_stddev for all images.",
        maximum=100,
        new_maximum=1,
        hint=fields.LEVEL_HINT,
        only_with={"corruption": ("gaussian",)},
    )
    noise_clip: bool = field(
        True,
        "Clip images with Gaussian noise to [0, 1]; the literature on denoising mostly "
        "does not.",
        only_with={"corruption": ("gaussian",)},
    )
    noise_correlation: float = field(
        0.0,
        "Correlation of the Gaussian noise of adjacent pixels, along rows and columns; "
        "about 0.5 in pictures of a camera; 0 = independent. In color it applies to "
        "noise that all channels share; each channel also has noise of its own, with "
        "larger grains.",
        maximum=0.7,
        only_with={"corruption": ("gaussian",)},
    )
    supervision: str = field(
        "clean",
        "What training compares the output with: clean images, a second noisy draw "
        "(noise2noise), or the noisy input itself at pixels that the network does not "
        "see (noise2void), which needs no clean images.",
        choices=("clean", "noise2noise", "noise2void"),
    )
    fixed_noise: bool = field(
        False,
        "Give each training image the same noise in all epochs, as if the images had "
        "been made noisy once, before training. By default each epoch draws new noise.",
        only_with={"dataset": tuple(name for name in SOURCES if name != "images")},
    )
    salt_and_pepper_rate: float = field(
        0.1,
        "Share of pixel values that --corruption=salt_and_pepper sets to 0 or 1.",
        maximum=1,
        only_with={"corruption": ("salt_and_pepper",)},
    )
    masking_rate: float = field(
        0.25,
        "Share of pixel values that --corruption=masking sets to 0.",
        maximum=1,
        only_with={"corruption": ("masking",)},
    )
    poisson_peak: float = field(
        10.0,
        "Mean number of photons in a pixel of value 1 for --corruption=poisson; fewer "
        "photons mean more noise.",
        minimum=0.01,
        maximum=1000,
        only_with={"corruption": ("poisson",)},
    )
    jpeg_quality: int = field(
        10,
        "JPEG quality of --corruption=jpeg on libjpeg's scale, 1 to 100.",
        minimum=1,
        maximum=100,
        only_with={"corruption": ("jpeg",)},
    )
    jpeg_quality_max: int = field(
        0,
        "Draw the JPEG quality of each image uniformly from --jpeg_quality to this "
        "value; 0 = use --jpeg_quality for all images.",
        maximum=100,
        only_with={"corruption": ("jpeg",)},
    )
    mirror: bool = field(
        False,
        "Mirror a random half of the training images, left to right, in each epoch.",
    )
    turn: bool = field(
        False,
        "Turn square training images by a random multiple of 90 degrees in each epoch.",
    )
    max_shift: int = field(
        0,
        "Shift training images by up to N pixels in each direction, by a different "
        "amount in each epoch; border pixels are repeated.",
        maximum=2**12,
    )
    model: str = field(
        "conv",
        "Network to train: a name, or MODULE:FUNCTION of your own, importable from the "
        "current folder. The function is called as function(config, image_shape) and "
        "returns an aelab.models.Autoencoder.",
        choices=MODELS,
        takes_function=True,
    )
    encoding_dim: int = field(
        32,
        "Size of the latent code.",
        minimum=1,
        maximum=2**20,
        only_with={"model": ("dense", "codec")},
    )
    filters: int = field(
        32,
        "Filters at half the height and width of the images; each further halving "
        "doubles them.",
        minimum=1,
        maximum=2**12,
        only_with={"model": ("unet", "resunet")},
    )
    blocks: int = field(
        1,
        "Residual blocks in each stage of --model=unet, on the way down and on the way "
        "up.",
        minimum=1,
        maximum=7,  # each layer has one of 64 seeds
        only_with={"model": ("unet",)},
    )
    code_activation: str = field(
        "relu",
        "Activation of the latent code.",
        choices=("relu", "linear"),
        only_with={"model": ("dense",)},
    )
    stock_layers: bool = field(
        False,
        "Build convolutional networks from stock Keras layers only: slower, and "
        "identical up to rounding.",
        changes_numbers=False,  # beyond rounding
    )
    l1_activity: float = field(
        0.0, "Weight of the L1 penalty on the latent code.", minimum=0
    )
    rate_weight: float = field(
        0.0,
        "Weight of the code's length in bytes per image in the loss.",
        only_with={"model": ("codec",)},
    )
    loss: str = field("bce", "Reconstruction loss.", choices=LOSSES)
    optimizer: str = field("adam", "Keras optimizer.", choices=OPTIMIZERS)
    optimizer_args: str = field(
        "",
        "Further arguments of the optimizer, as Keras names them, for example "
        "beta_1=0.9,epsilon=1e-6; empty = Keras' defaults.",
    )
    learning_rate: float = field(1e-3, "Peak learning rate.", above=0)
    learning_rate_schedule: str = field(
        "constant",
        "Learning rate after the warm-up: constant, or decaying to 0 along a cosine.",
        choices=("constant", "cosine"),
    )
    warmup_steps: int = field(
        0, "Number of steps in which the learning rate rises linearly to its peak."
    )
    weight_decay: float = field(
        0.004,
        "Weight decay of --optimizer=adamw, applied to biases too, multiplied by the "
        "learning rate.",
        maximum=1e6,
        only_with={"optimizer": ("adamw",)},
    )
    gradient_clip_norm: float = field(
        0.0, "Clip the global gradient norm to this value; 0 = off."
    )
    weight_average: float = field(
        0.0,
        "Decay of an exponential moving average of the weights, for example 0.999. The "
        "averaged weights are then evaluated, kept as best, exported and used; 0 = "
        "off.",
        maximum=1,
    )
    batch_size: int = field(
        128, "Images per training step, across all devices.", minimum=1, maximum=2**20
    )
    epochs: int = field(
        10, "Number of passes over the training set.", minimum=1, maximum=2**30
    )
    train_steps: int = field(
        0, "Train this many steps instead of --epochs; 0 = use --epochs.", maximum=2**40
    )
    early_stopping_patience: int = setting(
        0, "Stop after this many epochs without a better evaluation loss; 0 = off."
    )
    early_stopping_min_delta: float = field(
        0.0, "How much lower an evaluation loss must be to count as better.", minimum=0
    )
    shuffle_version: int = field(
        2,
        "Order of the training images: 2, or 1 to repeat a run of release 0.1.0, whose "
        "epochs have too many batch mates in common.",
        choices=(1, 2),
        earlier=1,
    )
    seed: int = field(0, "Seed for all randomness.", minimum=0, maximum=2**31 - 1)
    precision: str = field(
        "float32",
        "Arithmetic of the network; weights and loss are always float32.",
        choices=("float32", "mixed_bfloat16", "mixed_float16"),
    )
    strategy: str = field(
        "single",
        "Devices to train on: one, all of this machine, or all of several workers "
        "(from TF_CONFIG or Slurm).",
        choices=("single", "mirrored", "multi_worker"),
        changes_numbers=False,  # beyond rounding
    )
    devices: str = setting(
        "",
        "Devices of --strategy=mirrored, for example GPU:0,GPU:1; empty = all GPUs, or "
        "all CPUs if there is no GPU.",
        only_with={"strategy": ("mirrored",)},
    )
    virtual_cpus: int = setting(
        0,
        "Split the CPU into N logical devices and ignore GPUs, to rehearse "
        "--strategy=mirrored; 0 = off.",
        maximum=64,
    )
    jit_compile: str = setting(
        "auto",
        "Compile training with XLA; auto = where XLA was measured to be faster: with "
        "float16 on CPUs.",
        choices=("auto", "true", "false"),
    )
    steps_per_loop: int = setting(
        20, "Training steps per compiled call.", minimum=1, maximum=2**31 - 1
    )
    log_every_steps: int = setting(
        100, "Log training metrics every N steps; 0 = only at evaluations."
    )
    profile_steps: str = setting(
        "", "Write a TensorBoard profile of steps A to B, given as A:B; empty = none."
    )
    eval_every_epochs: int = setting(
        1, "Evaluate every N epochs, and at the end.", minimum=1
    )
    checkpoint_every_steps: int = setting(
        0, "Also save every N steps, in addition to evaluations; 0 = off."
    )
    checkpoint_every_minutes: float = setting(
        10.0, "Save at least every N minutes; 0 = off."
    )
    keep_checkpoints: int = setting(
        3,
        "How many recent checkpoints to keep as a fallback if the newest is damaged.",
        minimum=1,
    )

    def __post_init__(self) -> None:
        for each in dataclasses.fields(self):
            fields.check(each, getattr(self, each.name))
        self.profiled_steps()
        self.optimizer_arguments()
        check_together(vars(self), FIELDS)

    @property
    def eval_part(self) -> str:
        """The part of the data set that a run is evaluated on while it trains."""
        return "validation" if self.validation_examples else "test"

    @property
    def has_clean_images(self) -> bool:
        """False if the images of the data set are noisy themselves."""
        return self.supervision == "clean" or self.corruption != "none"

    def corruptions(self) -> tuple[str, ...]:
        """The names in `corruption`, in the order in which they are applied."""
        return tuple(self.corruption.split(","))

    def profiled_steps(self) -> tuple[int, int]:
        """The step after which the profile begins and its last step; 0, 0 for none.

        Raises:
          UsageError: `profile_steps` is not such a pair.
        """
        if not self.profile_steps:
            return 0, 0
        first, _, last = self.profile_steps.partition(":")
        is_pair = all(re.fullmatch("[0-9]{1,12}", number) for number in (first, last))
        if not is_pair or int(first) >= int(last):
            raise UsageError(
                "--profile_steps must be two steps, the smaller first, for example "
                f"100:120; not {self.profile_steps!r}"
            )
        return int(first), int(last)

    def optimizer_arguments(self) -> dict[str, bool | float]:
        """`optimizer_args` as keyword arguments of the optimizer.

        Raises:
          UsageError: see `aelab.config.optimizer_args`.
        """

        def has_flag(name: str) -> bool:
            """Whether a field of this name has an effect."""
            return name in FIELDS and not unused(vars(self), FIELDS[name])

        return parse_optimizer_args(self.optimizer_args, has_flag)


FIELDS = {each.name: each for each in dataclasses.fields(Config)}


def field_type(name: str) -> type:
    """The type of a field's value: bool, int, float or str."""
    return fields.type_of(FIELDS[name])


def parse_field(name: str, text: str) -> fields.Value:
    """The value of a field as given on a command line.

    Raises:
      UsageError: `text` is not of the field's type, or is not allowed.
    """
    return fields.parse(FIELDS[name], text)

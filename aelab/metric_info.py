"""What each metric is called and how it is shown: one row per metric.

The console, tables, reports and TensorBoard read these rows. A metric with a `function`
is computed for every image; the other rows describe values that the training loop
counts itself.
"""

from typing import NamedTuple

MIN_MSE = 1e-10  # an exact copy has no PSNR; it counts as 100 dB
SSIM_WINDOW = 11  # pixels


class MetricInfo(NamedTuple):
    """How a metric is computed and shown.

    Attributes:
      title: its display name.
      description: one sentence, for TensorBoard.
      unit: of its values, for example "dB"; "" for none.
      digits: a format specification for its values.
      better: `lower`, `higher`, or "" where neither is.
      scale: of a chart's axis, `linear` or `log`.
      function: `"module:function"`, `(clean, output) -> float32 [n]` of two
        float32 [n, H, W, C]; "" if the loop counts the values itself.
      in_training: True if it is computed in training as well as in evaluations.
    """

    title: str
    description: str
    unit: str = ""
    digits: str = ".4f"
    better: str = ""
    scale: str = "linear"
    function: str = ""
    in_training: bool = False


METRICS = {
    "loss": MetricInfo(
        "Loss",
        "What training minimizes: the reconstruction loss and the penalties.",
        better="lower",
        scale="log",
    ),
    "bce": MetricInfo(
        "BCE",
        "Binary cross-entropy in nats, the mean over pixels. The mean over images.",
        better="lower",
        scale="log",
        function="aelab.metrics:bce",
    ),
    "mse": MetricInfo(
        "MSE",
        "Mean squared error. The mean over images.",
        better="lower",
        scale="log",
        function="aelab.metrics:mse",
    ),
    "psnr": MetricInfo(
        "PSNR",
        "Peak signal-to-noise ratio in dB, for values in [0, 1]. The mean over images.",
        unit="dB",
        digits=".2f",
        better="higher",
        function="aelab.metrics:psnr",
        in_training=True,
    ),
    "ssim": MetricInfo(
        "SSIM",
        "Structural similarity (Wang et al. 2004), at most 1. The mean over images.",
        better="higher",
        function="aelab.metrics:ssim",
    ),
    "code_bytes": MetricInfo(
        "Code bytes",
        "Bytes of an image's code by the model's prior. The mean over images.",
        unit="bytes",
        better="lower",
    ),
    "learning_rate": MetricInfo(
        "Learning rate", "Learning rate of the last step.", digits=".2g", scale="log"
    ),
    "gradient_norm": MetricInfo(
        "Gradient norm",
        "Euclidean norm of the gradient before clipping, the mean over finite steps.",
        scale="log",
    ),
    "loss_scale": MetricInfo(
        "Loss scale",
        "The factor on float16 losses that keeps gradients from vanishing.",
        digits=".0f",
        scale="log",
    ),
    "skipped_steps": MetricInfo(
        "Skipped steps",
        "Steps skipped so far because a loss or gradient in float16 was not finite.",
        digits=".0f",
    ),
    "images_per_second": MetricInfo(
        "Images per second",
        "Training images per second, without evaluations.",
        unit="images/s",
        digits=",.0f",
    ),
    "input_wait": MetricInfo(
        "Input wait", "Share of the training time spent waiting for batches, 0 to 1."
    ),
}


def format_value(name: str, value: float) -> str:
    """`value` in the metric's digits; four decimals for a name without a row."""
    digits = METRICS[name].digits if name in METRICS else ".4f"
    return f"{value:{digits}}"


def heading(name: str) -> str:
    """The metric's title and unit, for example "PSNR, dB"; `name` if it has no row.

    A title that names the unit itself stays as it is.
    """
    if name not in METRICS:
        return name
    info = METRICS[name]
    is_named = info.unit.partition("/")[0] in info.title.lower()
    return info.title if is_named else f"{info.title}, {info.unit}"

#!/usr/bin/env python3
"""Trains a recipe with our loop and with `Model.fit`, over several seeds, and compares.

tools/compare_with_fit.py --flagfile=configs/NAME.flags [--num_seeds=3]
    [--FLAG=VALUE ...]

`Model.fit` trains stock Keras layers, with Keras' own initial weights (but for
--model=unet) and activity regularizer, on the batches of our pipeline. Both are
evaluated alike.
"""

import dataclasses
import statistics
import tempfile
from collections.abc import Sequence
from typing import Any

from aelab.cli import CommandLine, run
from aelab.config import Config
from aelab.errors import UsageError

_FIT_LOSSES = {"bce": "binary_crossentropy", "mse": "mean_squared_error"}


def build_stock_dense(config: Config, image_shape: tuple[int, int, int]) -> Any:
    """The dense autoencoder as a Keras tutorial writes it."""
    import keras

    size = image_shape[0] * image_shape[1] * image_shape[2]
    # Keras divides the penalty of a batch by its size since 3.14.
    weight = config.l1_activity
    if tuple(map(int, keras.__version__.split(".")[:2])) < (3, 14):
        weight /= config.batch_size
    penalty = keras.regularizers.L1(weight) if weight else None
    return keras.Sequential(
        [
            keras.Input(image_shape),
            keras.layers.Flatten(),
            keras.layers.Dense(
                config.encoding_dim,
                activation=config.code_activation,
                activity_regularizer=penalty,
            ),
            keras.layers.Dense(size, activation="sigmoid"),
            keras.layers.Reshape(image_shape),
        ]
    )


def build_stock_conv(config: Config, image_shape: tuple[int, int, int]) -> Any:
    """The convolutional autoencoder as a Keras tutorial writes it."""
    import keras

    def conv(filters: int, activation: str) -> Any:
        return keras.layers.Conv2D(filters, 3, padding="same", activation=activation)

    return keras.Sequential(
        [
            keras.Input(image_shape),
            conv(32, "relu"),
            keras.layers.MaxPooling2D(2),
            conv(32, "relu"),
            keras.layers.MaxPooling2D(2),
            conv(32, "relu"),
            keras.layers.UpSampling2D(2),
            conv(32, "relu"),
            keras.layers.UpSampling2D(2),
            conv(image_shape[2], "sigmoid"),
        ]
    )


def build_stock_unet(config: Config, image_shape: tuple[int, int, int]) -> Any:
    """The U-Net, with our initial weights."""
    from aelab.models import build_model

    return build_model(dataclasses.replace(config, stock_layers="true"), image_shape)


STOCK_MODELS = {
    "dense": build_stock_dense,
    "conv": build_stock_conv,
    "unet": build_stock_unet,
}


def compile_stock(model: Any, config: Config, total_steps: int) -> None:
    """Compiles a stock model for `fit`, with the recipe's optimizer and loss."""
    from aelab.training.optimizers import OPTIMIZERS, LearningRate

    rate = LearningRate(config, total_steps)
    optimizer = OPTIMIZERS[config.optimizer](
        learning_rate=lambda: rate(optimizer.iterations)
    )
    model.compile(optimizer=optimizer, loss=_FIT_LOSSES[config.loss])


def psnr_of_fit(config: Config) -> float:
    """Trains with `Model.fit`; returns the last evaluation PSNR, in dB."""
    import keras

    from aelab.data.pipeline import (
        make_eval_dataset,
        make_train_dataset,
        num_eval_batches,
    )
    from aelab.data.sources import load_splits
    from aelab.training.plan import build_plan
    from aelab.training.step import build_evaluate, image_metrics

    train, held_out = load_splits(config)
    total_steps = build_plan(config, len(train)).total_steps
    keras.utils.set_random_seed(config.seed)
    model = STOCK_MODELS[config.model](config, train.image_shape)
    compile_stock(model, config, total_steps)
    dataset = make_train_dataset(train, config, 0).take(total_steps)
    model.fit(dataset, shuffle=False, verbose=0)
    evaluate = build_evaluate(lambda x, y: image_metrics(y, model(x, training=False)))
    num_batches = num_eval_batches(held_out, config)
    return evaluate(make_eval_dataset(held_out, config), num_batches)["psnr"]


def psnr_of_loop(config: Config) -> float:
    """Trains with our loop; returns the last evaluation PSNR, in dB."""
    from aelab.training.run import train_and_evaluate

    with tempfile.TemporaryDirectory() as run_dir:
        return train_and_evaluate(config, run_dir)["psnr"]


def main(argv: Sequence[str]) -> None:
    """Parses the command line, trains and prints the table."""
    command_line = CommandLine(__doc__)
    command_line.add_text("num_seeds", "How many seeds, from --seed on.", "N", "3")
    command_line.add_config()
    values = command_line.parse(argv)
    config = command_line.config()
    if not values.num_seeds.isdecimal() or int(values.num_seeds) < 2:
        raise UsageError(f"--num_seeds must be at least 2, not {values.num_seeds}")

    from aelab.system.startup import start_tensorflow

    start_tensorflow()

    rows: dict[str, list[float]] = {"aelab": [], "Model.fit": []}
    for number in range(int(values.num_seeds)):
        seeded = dataclasses.replace(config, seed=config.seed + number)
        rows["aelab"].append(psnr_of_loop(seeded))
        rows["Model.fit"].append(psnr_of_fit(seeded))
        print(
            f"seed {seeded.seed}: "
            + ", ".join(f"{n} {r[-1]:.3f}" for n, r in rows.items())
        )
    print(
        "\n| | eval PSNR by seed, dB | mean | standard deviation |\n|---|---|---|---|"
    )
    for name, row in rows.items():
        each = ", ".join(f"{psnr:.2f}" for psnr in row)
        mean, spread = statistics.mean(row), statistics.stdev(row)
        print(f"| {name} | {each} | {mean:.3f} | {spread:.3f} |")


if __name__ == "__main__":
    run(main)

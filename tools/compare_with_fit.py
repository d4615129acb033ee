#!/usr/bin/env python3
"""Compares aelab's loop with `Model.fit`: trains a recipe with both, for several seeds.

tools/compare_with_fit.py --flagfile=configs/NAME.flags [--num_seeds=3]
    [--FLAG=VALUE ...]

`Model.fit` trains stock Keras layers on the batches of aelab's pipeline, with Keras'
own initial weights (except --model=unet) and activity regularizer. Both models are
evaluated in the same way.
"""

import dataclasses
import functools
import math
import statistics
import tempfile
from collections.abc import Sequence
from typing import Any

from common import markdown_table, whole_number

from aelab.cli import CommandLine, run
from aelab.config import Config
from aelab.errors import UsageError

_LOSSES = {"bce": "binary_crossentropy", "mse": "mean_squared_error"}


def stock_dense(config: Config, image_shape: tuple[int, int, int]) -> Any:
    """The dense autoencoder of the Keras tutorial."""
    from keras import Input, Sequential, __version__, layers, regularizers

    # Since 3.14, Keras divides the penalty of a batch by its size.
    weight = config.l1_activity
    if tuple(map(int, __version__.split(".")[:2])) < (3, 14):
        weight /= config.batch_size
    penalty = {"activity_regularizer": regularizers.L1(weight)} if weight else {}
    code = layers.Dense(config.encoding_dim, config.code_activation, **penalty)
    pixels = layers.Dense(math.prod(image_shape), "sigmoid")
    reshape = layers.Reshape(image_shape)
    return Sequential([Input(image_shape), layers.Flatten(), code, pixels, reshape])


def stock_conv(config: Config, image_shape: tuple[int, int, int]) -> Any:
    """The convolutional autoencoder of the Keras tutorial."""
    from keras import Input, Sequential, layers

    conv = functools.partial(layers.Conv2D, kernel_size=3, padding="same")
    hidden: list[Any] = [Input(image_shape)]
    for rescale in [layers.MaxPooling2D] * 2 + [layers.UpSampling2D] * 2:
        hidden += [conv(32, activation="relu"), rescale(2)]
    return Sequential([*hidden, conv(image_shape[2], activation="sigmoid")])


def stock_unet(config: Config, image_shape: tuple[int, int, int]) -> Any:
    """The U-Net, with our initial weights."""
    from aelab.models import build_model

    config = dataclasses.replace(config, stock_layers=True)
    return build_model(config, image_shape).model


STOCK_MODELS = {"dense": stock_dense, "conv": stock_conv, "unet": stock_unet}


def check(config: Config) -> None:
    """Raises UsageError for a recipe that `Model.fit` does not get in the same way."""
    supported = {"model": STOCK_MODELS, "loss": _LOSSES, "supervision": ["clean"]}
    for name, choices in supported.items():
        if (value := getattr(config, name)) not in choices:
            raise UsageError(
                f"--{name}={value} can't be compared; these can: {', '.join(choices)}"
            )
    without = ("optimizer_args", "gradient_clip_norm", "weight_average")
    for name in without:
        if value := getattr(config, name):
            raise UsageError(f"--{name}={value} can't be compared: leave it out")
    if config.optimizer == "adamw":
        raise UsageError("--optimizer=adamw can't be compared: use another optimizer")


def compile_stock(model: Any, config: Config, total_steps: int) -> None:
    """Compiles a stock model for `fit`, with the recipe's optimizer and loss."""
    from aelab.config.registry import OPTIMIZERS, load
    from aelab.training.schedules import LearningRate

    rate = LearningRate(config, total_steps)
    build = load(OPTIMIZERS[config.optimizer], "--optimizer")
    optimizer = build(learning_rate=lambda: rate(optimizer.iterations))
    model.compile(optimizer=optimizer, loss=_LOSSES[config.loss])


def psnr_of_fit(config: Config) -> float:
    """Trains with `Model.fit`; returns the last evaluation PSNR, in dB."""
    import keras

    from aelab.data import pipeline
    from aelab.data.sources import load_splits
    from aelab.metrics import image_metrics
    from aelab.training.loops import build_evaluate
    from aelab.training.plan import Plan

    train, held_out = load_splits(config)
    total_steps = Plan(config, len(train)).total_steps
    keras.utils.set_random_seed(config.seed)
    model = STOCK_MODELS[config.model](config, train.image_shape)
    compile_stock(model, config, total_steps)
    dataset = pipeline.make_train_dataset(train, config, 0).take(total_steps)
    model.fit(dataset, shuffle=False, verbose=0)
    evaluate = build_evaluate(lambda x, y: image_metrics(y, model(x, training=False)))
    batches = pipeline.make_eval_dataset(held_out, config)
    return evaluate(batches, pipeline.num_eval_batches(held_out, config))["psnr"]


def main(argv: Sequence[str]) -> None:
    """Parses the command line, trains and prints the table."""
    command_line = CommandLine(__doc__)
    command_line.add_text("num_seeds", "Number of seeds, from --seed up.", "N", "3")
    command_line.add_config()
    values = command_line.parse(argv)
    config = command_line.config()
    check(config)
    num_seeds = whole_number("num_seeds", values.num_seeds, 2)

    from aelab.system.startup import start_tensorflow

    start_tensorflow()
    from aelab.training.run import train_and_evaluate

    ours, of_fit = [], []
    for seed in range(config.seed, config.seed + num_seeds):
        seeded = dataclasses.replace(config, seed=seed)
        with tempfile.TemporaryDirectory() as run_dir:
            ours.append(train_and_evaluate(seeded, run_dir)["psnr"])
        of_fit.append(psnr_of_fit(seeded))
        print(f"seed {seed}: aelab {ours[-1]:.3f}, Model.fit {of_fit[-1]:.3f}")
    rows = []
    for name, psnr in (("aelab", ours), ("Model.fit", of_fit)):
        mean, deviation = statistics.mean(psnr), statistics.stdev(psnr)
        by_seed = ", ".join(f"{value:.2f}" for value in psnr)
        rows.append([name, by_seed, f"{mean:.3f}", f"{deviation:.3f}"])
    head = ["", "eval PSNR by seed, dB", "mean", "standard deviation"]
    print(f"\n{markdown_table(head, rows)}")


if __name__ == "__main__":
    run(main)

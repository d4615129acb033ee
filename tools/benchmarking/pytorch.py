"""Measures the same networks in PyTorch, with all data in memory."""

import functools
import math
import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

from aelab.config import Config
from benchmarking.jobs import peers_data

_WARM_UP_STEPS = 5  # torch.compile has recorded its CUDA graphs by the third
_STEPS_BEFORE_RECORDING = 3
_GPU_STEPS_PER_CHECK = 20  # wait for the GPU as often as our loop does
_FILTERS = 32
_ACTIVATIONS = {"relu": nn.ReLU, "linear": nn.Identity}

Tensor = torch.Tensor
Loss = Callable[[Tensor, Tensor], Tensor]


def measure(job: dict[str, Any]) -> dict[str, Any]:
    """Times training steps; see `benchmarking.jobs`."""
    # TensorFlow flushes too; otherwise products close to 0 take a third of the time.
    torch.set_flush_denormal(True)
    cores = len(os.sched_getaffinity(0))
    torch.set_num_threads(cores if job["setting"]["all_cores"] else 1)
    # TensorFlow uses TF32 by default.
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    config = Config(**job["config"])
    torch.manual_seed(config.seed)
    device = torch.device("cuda" if job["device"] == "gpu" else "cpu")
    data = peers_data(job["images"], config)
    x, y = (_as_tensor(images, config).to(device) for images in data)
    networks = _NETWORKS[config.model](config, tuple(y.shape[1:])).to(device)
    step = _build_step(config, networks, job["setting"])
    batches = _batches(x, y, config.batch_size)
    for _ in range(_WARM_UP_STEPS):
        step(*next(batches))
    steps_per_check = _GPU_STEPS_PER_CHECK if job["device"] == "gpu" else 1
    total, steps = torch.zeros((), device=device), 0
    total.item()
    started = time.perf_counter()
    while time.perf_counter() - started < job["seconds"] or not steps:
        for _ in range(steps_per_check):
            total += step(*next(batches))
        steps += steps_per_check
        if not math.isfinite(total.item()):
            raise ValueError("the loss is not finite")
    seconds = time.perf_counter() - started
    return {"ms": seconds / steps * 1e3, "steps": steps}


def _as_tensor(images: Any, config: Config) -> Tensor:
    """[n, H * W * C] for `dense`; [n, C, H, W], stored as [n, H, W, C], for `conv`."""
    tensor = torch.from_numpy(images)
    if config.model == "dense":
        return tensor.flatten(1)
    return tensor.permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)


def _dense(config: Config, shape: tuple[int, ...]) -> nn.ModuleList:
    """Encoder and decoder of the dense autoencoder, up to the logits."""
    activation = _ACTIVATIONS[config.code_activation]()
    encoder = nn.Sequential(nn.Linear(shape[0], config.encoding_dim), activation)
    return nn.ModuleList([encoder, nn.Linear(config.encoding_dim, shape[0])])


def _conv(config: Config, shape: tuple[int, ...]) -> nn.ModuleList:
    """Encoder and decoder of the convolutional autoencoder, up to the logits."""
    conv = functools.partial(nn.Conv2d, kernel_size=3, padding=1)
    encoder = nn.Sequential(
        *(conv(shape[0], _FILTERS), nn.ReLU(), nn.MaxPool2d(2)),
        *(conv(_FILTERS, _FILTERS), nn.ReLU(), nn.MaxPool2d(2)),
    )
    decoder = nn.Sequential(
        *(conv(_FILTERS, _FILTERS), nn.ReLU(), nn.Upsample(scale_factor=2)),
        *(conv(_FILTERS, _FILTERS), nn.ReLU(), nn.Upsample(scale_factor=2)),
        conv(_FILTERS, shape[0]),
    )
    return nn.ModuleList([encoder, decoder]).to(memory_format=torch.channels_last)


_NETWORKS = {"dense": _dense, "conv": _conv}


def _build_step(
    config: Config, networks: nn.ModuleList, setting: dict[str, Any]
) -> Loss:
    """A function that runs a training step on (x, y) and returns the loss."""
    is_recorded = setting["graphs"] == "step"
    options = {"lr": config.learning_rate, "rho": 0.95, "eps": 1e-7}  # as in Keras
    options["capturable"] = is_recorded
    optimizer = torch.optim.Adadelta(networks.parameters(), **options)
    encoder, decoder = networks
    is_mixed = config.precision == "mixed_bfloat16"

    def loss_of(x: Tensor, y: Tensor) -> Tensor:
        with torch.autocast(x.device.type, torch.bfloat16, enabled=is_mixed):
            code = encoder(x)
            logits = decoder(code)
        loss = nn.functional.binary_cross_entropy_with_logits(logits.float(), y)
        if config.l1_activity:
            loss = loss + config.l1_activity * code.float().abs().sum() / len(x)
        return loss

    if setting["compiled"]:
        mode = "reduce-overhead" if setting["graphs"] == "passes" else "default"
        loss_of = torch.compile(loss_of, mode=mode)

    def step(x: Tensor, y: Tensor) -> Tensor:
        optimizer.zero_grad(set_to_none=True)
        loss = loss_of(x, y)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return _recorded(step) if is_recorded else step


def _recorded(step: Loss) -> Loss:
    """`step` as one CUDA graph, recorded in the first call and replayed after it."""
    graph = torch.cuda.CUDAGraph()
    buffers: list[Tensor] = []  # x, y and the loss

    def record_or_replay(x: Tensor, y: Tensor) -> Tensor:
        if not buffers:
            buffers.extend((x.clone(), y.clone()))
            warm_up = torch.cuda.Stream()
            warm_up.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(warm_up):
                for _ in range(_STEPS_BEFORE_RECORDING):
                    step(*buffers)
            torch.cuda.current_stream().wait_stream(warm_up)
            with torch.cuda.graph(graph):
                buffers.append(step(*buffers))
        buffers[0].copy_(x)
        buffers[1].copy_(y)
        graph.replay()
        return buffers[2]

    return record_or_replay


def _batches(x: Tensor, y: Tensor, size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Endless whole batches, in a new order for each epoch."""
    while True:
        order = torch.randperm(len(x), device=x.device)
        for first in range(0, len(x) - size + 1, size):
            batch = order[first : first + size]
            yield x[batch], y[batch]

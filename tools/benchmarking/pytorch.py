"""Measures the same networks in PyTorch, with all data resident in memory."""

import math
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

from aelab.config import Config
from benchmarking import arrays
from benchmarking.machine import num_cores

_WARM_UP_STEPS = 5  # torch.compile records CUDA graphs in the third at the latest
_STEPS_BEFORE_RECORDING = 3
_STEPS_BEFORE_CLOCK = 20  # a GPU is waited for, as that of our loop is
_FILTERS = 32
_ACTIVATIONS = {"relu": nn.ReLU, "linear": nn.Identity}

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def measure(job: dict[str, Any]) -> dict[str, Any]:
    """Times training steps.

    Args:
      job: `config`, the fields of a `Config`; `images`, a .npy file of uint8
        [n, H, W, C]; `device`, cpu or gpu; `setting`, whether forward pass and loss are
        `compiled`, what becomes CUDA `graphs`, and whether to use `all_cores`;
        `seconds`, for how long.

    Returns:
      `ms`: milliseconds a step, the mean over the time; `steps`: how many.
    """
    # As TensorFlow does; products of numbers close to 0 cost a third of the time else.
    torch.set_flush_denormal(True)
    torch.set_num_threads(num_cores() if job["setting"]["all_cores"] else 1)
    # TF32, as TensorFlow has it.
    torch.backends.cuda.matmul.allow_tf32 = True
    torch.backends.cudnn.allow_tf32 = True
    config = Config(**job["config"])
    torch.manual_seed(config.seed)
    device = torch.device("cuda" if job["device"] == "gpu" else "cpu")
    x, y = (
        _as_tensor(a, config).to(device) for a in arrays.load(job["images"], config)
    )
    networks = _NETWORKS[config.model](config, tuple(y.shape[1:])).to(device)
    step = _build_step(config, networks, job["setting"])
    batches = _batches(x, y, config.batch_size)
    for _ in range(_WARM_UP_STEPS):
        step(*next(batches))
    at_a_time = _STEPS_BEFORE_CLOCK if job["device"] == "gpu" else 1
    total, steps = torch.zeros((), device=device), 0
    total.item()
    started = time.perf_counter()
    while time.perf_counter() - started < job["seconds"] or not steps:
        for _ in range(at_a_time):
            total += step(*next(batches))
        steps += at_a_time
        if not math.isfinite(total.item()):
            raise ValueError("the loss is not finite")
    seconds = time.perf_counter() - started
    return {"ms": seconds / steps * 1e3, "steps": steps}


def _as_tensor(images: Any, config: Config) -> torch.Tensor:
    """[n, C, H, W] in memory as [n, H, W, C] for `conv`, [n, H * W * C] for `dense`."""
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

    def conv(channels: int, filters: int) -> nn.Module:
        return nn.Conv2d(channels, filters, 3, padding=1)

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
    """A function that takes a training step on (x, y) and returns the loss.

    Adadelta has the constants of Keras.
    """
    is_recorded = setting["graphs"] == "step"
    optimizer = torch.optim.Adadelta(
        networks.parameters(),
        lr=config.learning_rate,
        rho=0.95,
        eps=1e-7,
        capturable=is_recorded,
    )
    loss_of = _build_loss(config, networks)
    if setting["compiled"]:
        mode = "reduce-overhead" if setting["graphs"] == "passes" else "default"
        loss_of = torch.compile(loss_of, mode=mode)

    def step(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        optimizer.zero_grad(set_to_none=True)
        loss = loss_of(x, y)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return _recorded(step) if is_recorded else step


def _recorded(step: Loss) -> Loss:
    """`step` as one CUDA graph, recorded in the first call and replayed after it."""
    graph = torch.cuda.CUDAGraph()
    held: list[torch.Tensor] = []

    def record(x: torch.Tensor, y: torch.Tensor) -> None:
        held.extend((x.clone(), y.clone()))
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(_STEPS_BEFORE_RECORDING):
                step(*held[:2])
        torch.cuda.current_stream().wait_stream(aside)
        with torch.cuda.graph(graph):
            held.append(step(*held[:2]))

    def replay(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        if not held:
            record(x, y)
        held[0].copy_(x)
        held[1].copy_(y)
        graph.replay()
        return held[2]

    return replay


def _build_loss(config: Config, networks: nn.ModuleList) -> Loss:
    """Forward pass and loss, in bfloat16 where the precision says so."""
    encoder, decoder = networks
    is_mixed = config.precision == "mixed_bfloat16"

    def loss_of(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        with torch.autocast(x.device.type, torch.bfloat16, enabled=is_mixed):
            code = encoder(x)
            logits = decoder(code)
        loss = nn.functional.binary_cross_entropy_with_logits(logits.float(), y)
        if config.l1_activity:
            loss = loss + config.l1_activity * code.float().abs().sum() / len(x)
        return loss

    return loss_of


def _batches(
    x: torch.Tensor, y: torch.Tensor, batch_size: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Whole batches without end, in another order each epoch."""
    while True:
        order = torch.randperm(len(x), device=x.device)
        for first in range(0, len(x) - batch_size + 1, batch_size):
            chosen = order[first : first + batch_size]
            yield x[chosen], y[chosen]

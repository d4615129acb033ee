"""The cluster of a run, from `TF_CONFIG` or Slurm.

Uses only the standard library, so that a mistake is reported at once.
"""

import itertools
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aelab.errors import UsageError

_JOBS = ("chief", "worker")
_FIRST_PORT, _NUM_PORTS = 20_000, 12_000  # below the ports of Linux clients


@dataclass(frozen=True)
class Cluster:
    """The workers of a run."""

    addresses: tuple[str, ...]  # `host:port` of each worker, the chief first
    index: int  # of this process in `addresses`

    @property
    def is_chief(self) -> bool:
        """True if this worker writes the run directory and the console."""
        return self.index == 0


def find_cluster(environment: Mapping[str, str] = os.environ) -> Cluster:
    """The cluster that `TF_CONFIG` or, without it, Slurm's variables describe.

    Raises:
      UsageError: neither is set, or the description is invalid.
    """
    if "TF_CONFIG" in environment:
        return _from_tf_config(environment["TF_CONFIG"])
    if "SLURM_PROCID" in environment:
        return _from_slurm(environment)
    raise UsageError(
        "--strategy=multi_worker needs TF_CONFIG or srun, which list the workers; for "
        'example TF_CONFIG=\'{"cluster": {"worker": ["host1:2222", "host2:2222"]}, '
        '"task": {"type": "worker", "index": 0}}\''
    )


def _from_tf_config(text: str) -> Cluster:
    """The workers of `TF_CONFIG`. The `chief`, if there is one, comes first."""
    try:
        jobs, job, index = _parse(json.loads(text))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UsageError(
            'TF_CONFIG must be JSON with "cluster" (a list of addresses for each job) '
            f'and "task" ("type" and "index"): {error!r} in {text[:500]!r}'
        ) from None
    if unknown := sorted(set(jobs) - set(_JOBS)):
        raise UsageError(
            f"TF_CONFIG has the job {unknown[0]}; aelab knows only chief and worker"
        )
    if len(jobs.get("chief", [])) > 1:
        raise UsageError("TF_CONFIG has more than one chief")
    if job not in jobs or not 0 <= index < len(jobs[job]):
        raise UsageError(f"TF_CONFIG has no address for its own task, {job} {index}")
    addresses = [address for name in _JOBS for address in jobs.get(name, [])]
    before = len(jobs.get("chief", [])) if job == "worker" else 0
    return _cluster(addresses, before + index, "TF_CONFIG")


def _parse(values: Any) -> tuple[dict[str, list[str]], str, int]:
    """The addresses by job, and the job and index of this process."""
    jobs, job, index = (
        values["cluster"],
        values["task"]["type"],
        values["task"]["index"],
    )
    for name, addresses in jobs.items():
        if not isinstance(addresses, list) or set(map(type, addresses)) - {str}:
            raise TypeError(f"{name} must be a list of strings")
    if not isinstance(job, str):
        raise TypeError("type must be a string")
    if isinstance(index, bool) or not isinstance(index, int | str):
        raise TypeError("index must be an integer")
    return jobs, job, int(index)


def _from_slurm(environment: Mapping[str, str]) -> Cluster:
    """One worker per task of the job step, node by node.

    Uses a task's number on its node, because its rank depends on `srun --distribution`.
    """
    try:
        hosts = expand_hosts(environment["SLURM_STEP_NODELIST"])
        tasks = _tasks_per_node(environment["SLURM_STEP_TASKS_PER_NODE"])
        node, local = (int(environment[f"SLURM_{n}"]) for n in ("NODEID", "LOCALID"))
        job, step = (int(environment[f"SLURM_{n}"]) for n in ("JOB_ID", "STEP_ID"))
        if len(hosts) != len(tasks):
            raise ValueError(f"{len(hosts)} nodes, but {len(tasks)} task counts")
        if not (0 <= node < len(hosts) and 0 <= local < tasks[node]):
            raise ValueError(f"no task {local} on node {node}")
    except (KeyError, ValueError) as error:
        raise UsageError(
            "--strategy=multi_worker under Slurm needs the variables that srun sets "
            f"for each task of a step: {error!r}"
        ) from None
    # Two jobs on one node should not use the same port.
    port = _FIRST_PORT + (job * 64 + step) * 8 % _NUM_PORTS
    addresses = [
        f"{host}:{port + number}"
        for host, count in zip(hosts, tasks, strict=True)
        for number in range(count)
    ]
    return _cluster(addresses, sum(tasks[:node]) + local, "Slurm")


def _cluster(addresses: list[str], index: int, source: str) -> Cluster:
    """Checks that the addresses are valid and distinct; `source` is for messages."""
    for address in addresses:
        if not re.fullmatch(r".+:\d+", address):
            raise UsageError(
                f"{source}: {address!r} is not an address; expected host:port"
            )
        if addresses.count(address) > 1:
            raise UsageError(f"{source} gives {address} to two workers")
    return Cluster(tuple(addresses), index)


def expand_hosts(nodelist: str) -> list[str]:
    """The hosts of Slurm's shorthand: `a[1-2,09],b` is a1, a2, a09, b.

    Raises:
      ValueError: an invalid range.
    """
    hosts: list[str] = []
    for word in re.findall(r"(?:\[[^\]]*\]|[^,\[\]])+", nodelist):
        # Text and bracketed ranges alternate: `a[1-2]b` becomes a, 1-2, b.
        pieces = re.split(r"\[([^\]]*)\]", word)
        choices = [_numbers(p) if i % 2 else [p] for i, p in enumerate(pieces)]
        hosts += map("".join, itertools.product(*choices))
    return hosts


def _numbers(ranges: str) -> list[str]:
    """`08-10,12` is 08, 09, 10, 12."""
    numbers: list[str] = []
    for part in ranges.split(","):
        first, dash, last = part.partition("-")
        if not dash:
            numbers.append(part)
        elif first.isdecimal() and last.isdecimal() and int(first) <= int(last):
            numbers += [f"{n:0{len(first)}}" for n in range(int(first), int(last) + 1)]
        else:
            raise ValueError(f"{part} is not a range of nodes")
    return numbers


def _tasks_per_node(text: str) -> list[int]:
    """`2(x3),1` is 2, 2, 2, 1."""
    counts: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"(\d+)(?:\(x(\d+)\))?", part)
        if not match:
            raise ValueError(f"{part!r} is not a task count")
        counts += [int(match[1])] * int(match[2] or 1)
    return counts

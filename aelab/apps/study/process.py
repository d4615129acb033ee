"""One process of a study, as the study sees it."""

import contextlib
import dataclasses
import json
import os
import subprocess
import sys
from typing import NamedTuple

from aelab.apps.study.description import Trial
from aelab.apps.study.slots import Slot
from aelab.config import Config
from aelab.distributed.blocks import num_blocks

_COMMAND = ["-m", "aelab.apps.study.worker"]


class Outcome(NamedTuple):
    """How a run ended: an exit code, negative if a signal killed it, and a message."""

    trial: Trial
    code: int
    message: str


class Process:
    """A process that trains runs one after another; see `aelab.apps.study.worker`."""

    def __init__(self, slot: Slot, trial: Trial):
        """Starts the process for runs that need the same devices as `trial`."""
        self.kind = kind_of(trial.config)
        environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
        if slot.gpu:
            environment["CUDA_VISIBLE_DEVICES"] = slot.gpu
        cores = ",".join(map(str, slot.cores))
        self._process = subprocess.Popen(
            [sys.executable, *_COMMAND, cores],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
        )
        self.trial: Trial | None = None
        self.is_closed = False
        self.progress = 0.0
        self._text = b""

    def fileno(self) -> int:
        """The descriptor of its answers, for `select`."""
        assert self._process.stdout
        return self._process.stdout.fileno()

    def start(self, action: str, trial: Trial) -> None:
        """Sends a run to the process."""
        request = {
            "action": action,
            "run_dir": trial.run_dir,
            "config": dataclasses.asdict(trial.config),
        }
        self.trial, self.progress = trial, 0.0
        assert self._process.stdin
        with contextlib.suppress(BrokenPipeError):  # `read` finds that it has ended
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()

    def read(self) -> Outcome | None:
        """Reads its answers; returns the outcome if its run has ended."""
        content = os.read(self.fileno(), 2**16)
        assert self.trial
        if not content:
            code = self.wait()
            reason = f"its process was killed by signal {-code}" if code < 0 else ""
            if code == -9:
                reason += ", perhaps for lack of memory"
            return Outcome(self.trial, code or 1, reason or "its process has ended")
        *lines, self._text = (self._text + content).split(b"\n")
        for line in lines:
            answer = json.loads(line)
            if "code" in answer:
                return Outcome(self.trial, answer["code"], answer["message"])
            self.progress = answer["step"] / max(answer["steps"], 1)
        return None

    def close(self) -> None:
        """Lets the process end, after it has saved the run under way."""
        assert self._process.stdin
        self.is_closed = True
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()

    def is_alive(self) -> bool:
        """False if the system has killed it meanwhile, for example."""
        return self._process.poll() is None

    def wait(self) -> int:
        """Waits until the process has ended; returns its exit code."""
        self.close()
        code = self._process.wait()
        assert self._process.stdout
        self._process.stdout.close()
        return code


def kind_of(config: Config) -> object:
    """Runs with the same value can share a process, one after another."""
    if config.virtual_cpus or config.strategy != "single":
        return config  # a process of its own, unless it is the same run
    return num_blocks(config.batch_size)

"""Compares a run directory with that of its twin, which nothing stopped."""

import json
from pathlib import Path
from typing import Any

from aelab.errors import UsageError
from aelab.runs import checkpoints

_TIMES = ("_per_second", "_seconds", "_wait")  # how the keys of what may differ end


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a `metrics.jsonl`, without times; none if it is not there.

    Raises:
      ValueError: a line that has an end is not a JSON object.
    """
    whole = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    lines = []
    for number, text in enumerate(whole, 1):
        try:
            values = json.loads(text)
        except ValueError:
            values = None
        if not isinstance(values, dict):
            raise ValueError(f"{path.name}: line {number} is no JSON object: {text!r}")
        lines.append({k: v for k, v in values.items() if not k.endswith(_TIMES)})
    return lines


def newest_step(run_dir: Path) -> int:
    """The step of the newest checkpoint in `latest`, -1 if there is none."""
    path = checkpoints.newest(str(run_dir / "checkpoints/latest"))
    return int(Path(path).stem.removeprefix("step-")) if path else -1


def differences(run_dir: Path, twin: Path) -> list[str]:
    """What a complete run has that its twin has not, or the other way round.

    Compares the newest checkpoint of `latest` and `best` (name and bytes, so also where
    training stopped early), every line of `metrics.jsonl` but for times, and the
    pictures. Nothing unfinished and nothing damaged may lie about.
    """
    found = []
    for kind in ("latest", "best"):
        found += _of_checkpoints(kind, run_dir, twin)
    found += _of_lines(run_dir, twin, is_complete=True)
    found += _of_pictures(run_dir, twin, is_complete=True)
    for path in sorted(run_dir.rglob("*")):
        if path.name.startswith((".tmp-", "damaged-")):
            found.append(f"{path.relative_to(run_dir)} was left over")
    return found


def flaws(run_dir: Path, twin: Path, step_before: int) -> list[str]:
    """What must not be in a run that was stopped, at whatever moment.

    Args:
      run_dir: the run. Up to where it has come, it must be as its twin.
      twin: the twin, complete.
      step_before: of the newest checkpoint that there was before, -1 if none.
    """
    found = _of_lines(run_dir, twin, is_complete=False)
    found += _of_pictures(run_dir, twin, is_complete=False)
    step = newest_step(run_dir)
    if step < step_before:
        found.append(f"checkpoint of step {step_before} is gone, the newest is {step}")
    if step < 0:
        return found
    path = checkpoints.path_of(str(run_dir / "checkpoints/latest"), step)
    try:
        arrays = checkpoints.load(path)
    except (UsageError, OSError) as error:
        return [*found, f"the newest checkpoint can't be loaded: {error}"]
    return found or _of_promised_lines(run_dir, twin, arrays)


def _of_checkpoints(kind: str, run_dir: Path, twin: Path) -> list[str]:
    """Differences of the newest checkpoints of a kind."""
    mine, theirs = (
        checkpoints.newest(str(path / "checkpoints" / kind)) for path in (run_dir, twin)
    )
    if not mine or not theirs:
        return [f"{kind}: checkpoint {mine}, of the twin {theirs}"]
    if Path(mine).name != Path(theirs).name:
        return [f"{kind}: {Path(mine).name}, of the twin {Path(theirs).name}"]
    if Path(mine).read_bytes() == Path(theirs).read_bytes():
        return []
    try:
        arrays, expected = checkpoints.load(mine), checkpoints.load(theirs)
    except UsageError as error:
        return [f"{kind}: {error}"]
    names = [
        name
        for name in sorted(arrays.keys() | expected.keys())
        if name not in arrays
        or name not in expected
        or arrays[name].tobytes() != expected[name].tobytes()
    ]
    return [f"{kind}: {Path(mine).name} has other bytes: {_some(names)}"]


def _of_lines(run_dir: Path, twin: Path, is_complete: bool) -> list[str]:
    """Differences of the figures; an incomplete run has the first lines of its twin."""
    path = run_dir / "metrics.jsonl"
    try:
        lines = read_lines(path)
    except ValueError as error:
        return [str(error)]
    expected = read_lines(twin / "metrics.jsonl")
    for number, (mine, theirs) in enumerate(zip(lines, expected, strict=False), 1):
        if mine != theirs:
            return [f"{path.name}: line {number} is {mine}, of the twin {theirs}"]
    if len(lines) > len(expected) or (is_complete and len(lines) < len(expected)):
        return [f"{path.name}: {len(lines)} lines, of the twin {len(expected)}"]
    if is_complete and not path.read_bytes().endswith(b"\n"):
        return [f"{path.name}: the last line has no end"]
    return []


def _of_promised_lines(run_dir: Path, twin: Path, arrays: dict[str, Any]) -> list[str]:
    """Lines that the checkpoint takes for written, and that are not there."""
    until = {
        "train": int(arrays["progress/logged_step"]),
        "eval": int(arrays["progress/evaluated_step"]),
    }
    present = len(read_lines(run_dir / "metrics.jsonl"))
    missing = [
        line
        for line in read_lines(twin / "metrics.jsonl")[present:]
        if line["step"] <= until[line["split"]]
    ]
    step = int(arrays["step"])
    if not missing:
        return []
    return [f"lines before the checkpoint of step {step} are gone: {missing[0]}"]


def _of_pictures(run_dir: Path, twin: Path, is_complete: bool) -> list[str]:
    """Differences of the pictures; an incomplete run may lack some."""
    mine, theirs = (
        {
            path.name: path.read_bytes()
            for path in (folder / "images").glob("*")
            if not path.name.startswith(".")
        }
        for folder in (run_dir, twin)
    )
    kinds = {
        "the twin has none": mine.keys() - theirs.keys(),
        "other bytes than the twin's": {
            name for name in mine.keys() & theirs.keys() if mine[name] != theirs[name]
        },
        "missing": theirs.keys() - mine.keys() if is_complete else set(),
    }
    return [
        f"images: {what}: {_some(sorted(names))}"
        for what, names in kinds.items()
        if names
    ]


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" * (len(names) > 3))

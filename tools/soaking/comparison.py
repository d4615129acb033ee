"""Compares a run directory with the directory of an uninterrupted reference run."""

import json
from pathlib import Path
from typing import Any

from aelab.errors import UsageError
from aelab.runs import checkpoints

_TIMES = ("_per_second", "_seconds", "_wait")  # suffixes of keys that may differ


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The complete lines of a `metrics.jsonl`, without times; none if it is missing.

    Raises:
      ValueError: a complete line is not a JSON object.
    """
    complete = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    lines = []
    for number, text in enumerate(complete, 1):
        try:
            values = json.loads(text)
        except ValueError:
            values = None
        if not isinstance(values, dict):
            message = f"{path.name}: line {number} is not a JSON object: {text!r}"
            raise ValueError(message)
        lines.append({k: v for k, v in values.items() if not k.endswith(_TIMES)})
    return lines


def newest_step(run_dir: Path) -> int:
    """The step of the newest checkpoint in `latest`, -1 if there is none."""
    path = checkpoints.newest(str(run_dir / "checkpoints/latest"))
    return int(Path(path).stem.removeprefix("step-")) if path else -1


def differences(run_dir: Path, reference: Path) -> list[str]:
    """The differences between a complete run and its reference run.

    Compares the newest checkpoint of `latest` and `best` (name and bytes, and thereby
    the step at which training stopped early), every line of `metrics.jsonl` except
    times, and the images. Unfinished and damaged files count as differences.
    """
    found = []
    for kind in ("latest", "best"):
        found += _checkpoint_differences(kind, run_dir, reference)
    found += _line_differences(run_dir, reference, is_complete=True)
    found += _image_differences(run_dir, reference, is_complete=True)
    for path in sorted(run_dir.rglob("*")):
        if path.name.startswith((".tmp-", "damaged-")):
            found.append(f"{path.relative_to(run_dir)} was left over")
    return found


def flaws(run_dir: Path, reference: Path, step_before: int) -> list[str]:
    """The flaws that a stopped run must not have, whenever it was stopped.

    Args:
      run_dir: the run. Up to its current step it must equal the reference run.
      reference: the complete reference run.
      step_before: step of the newest checkpoint before the run was last started, -1 if
        there was none.
    """
    found = _line_differences(run_dir, reference, is_complete=False)
    found += _image_differences(run_dir, reference, is_complete=False)
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
    return found or _missing_lines(run_dir, reference, arrays)


def _checkpoint_differences(kind: str, run_dir: Path, reference: Path) -> list[str]:
    """Differences between the newest checkpoints of a kind."""
    actual, expected = (
        checkpoints.newest(str(path / "checkpoints" / kind))
        for path in (run_dir, reference)
    )
    if not actual or not expected:
        return [f"{kind}: checkpoint {actual}, in the reference run {expected}"]
    name, expected_name = Path(actual).name, Path(expected).name
    if name != expected_name:
        return [f"{kind}: {name}, in the reference run {expected_name}"]
    if Path(actual).read_bytes() == Path(expected).read_bytes():
        return []
    try:
        found, wanted = checkpoints.load(actual), checkpoints.load(expected)
    except UsageError as error:
        return [f"{kind}: {error}"]
    names = [
        array
        for array in sorted(found.keys() | wanted.keys())
        if array not in found
        or array not in wanted
        or found[array].tobytes() != wanted[array].tobytes()
    ]
    return [f"{kind}: {name} has different bytes: {_first_names(names)}"]


def _line_differences(run_dir: Path, reference: Path, is_complete: bool) -> list[str]:
    """Differences in the metrics; an incomplete run may lack the last lines."""
    path = run_dir / "metrics.jsonl"
    try:
        lines = read_lines(path)
    except ValueError as error:
        return [str(error)]
    expected = read_lines(reference / "metrics.jsonl")
    for number, (line, wanted) in enumerate(zip(lines, expected, strict=False), 1):
        if line != wanted:
            found = f"{path.name}: line {number} is {line}"
            return [f"{found}, in the reference run {wanted}"]
    if len(lines) > len(expected) or (is_complete and len(lines) < len(expected)):
        found = f"{path.name}: {len(lines)} lines"
        return [f"{found}, in the reference run {len(expected)}"]
    if is_complete and not path.read_bytes().endswith(b"\n"):
        return [f"{path.name}: the last line has no end"]
    return []


def _missing_lines(run_dir: Path, reference: Path, arrays: dict[str, Any]) -> list[str]:
    """Missing lines that the checkpoint `arrays` says are written."""
    until = {
        "train": int(arrays["progress/logged_step"]),
        "eval": int(arrays["progress/evaluated_step"]),
    }
    present = len(read_lines(run_dir / "metrics.jsonl"))
    for line in read_lines(reference / "metrics.jsonl")[present:]:
        if line["step"] <= until[line["split"]]:
            step = int(arrays["step"])
            return [f"lines before the checkpoint of step {step} are gone: {line}"]
    return []


def _image_differences(run_dir: Path, reference: Path, is_complete: bool) -> list[str]:
    """Differences in the images; an incomplete run may lack some."""
    found, expected = (
        {
            path.name: path.read_bytes()
            for path in (folder / "images").glob("*")
            if not path.name.startswith(".")
        }
        for folder in (run_dir, reference)
    )
    common = found.keys() & expected.keys()
    kinds = {
        "not in the reference run": found.keys() - expected.keys(),
        "different bytes": {name for name in common if found[name] != expected[name]},
        "missing": expected.keys() - found.keys() if is_complete else set(),
    }
    return [
        f"images: {kind}: {_first_names(sorted(names))}"
        for kind, names in kinds.items()
        if names
    ]


def _first_names(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" * (len(names) > 3))

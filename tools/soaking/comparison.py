"""Compares a run directory with the directory of an uninterrupted reference run."""

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

from aelab.errors import UsageError
from aelab.runs import checkpoints

_TIMES = ("_per_second", "_seconds", "_wait")  # suffixes of keys that may differ
_WRITTEN = {"train": "progress/logged_step", "eval": "progress/evaluated_step"}


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The complete lines of a `metrics.jsonl`, without times; none if it is missing.

    Raises ValueError if a complete line is not a JSON object.
    """
    complete = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    lines = []
    for n, text in enumerate(complete, 1):
        try:
            values = json.loads(text)
        except ValueError:
            values = None
        if not isinstance(values, dict):
            raise ValueError(f"{path.name}: line {n} is not a JSON object: {text!r}")
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
    leftovers = [*run_dir.rglob(".tmp-*"), *run_dir.rglob("damaged-*")]
    return [
        *_checkpoint_differences("latest", run_dir, reference),
        *_checkpoint_differences("best", run_dir, reference),
        *_line_differences(run_dir, reference, is_complete=True),
        *_image_differences(run_dir, reference, is_complete=True),
        *(f"{path.relative_to(run_dir)} was left over" for path in sorted(leftovers)),
    ]


def flaws(run_dir: Path, reference: Path, step_before: int) -> list[str]:
    """The flaws of a stopped run, which must equal the reference run up to its step.

    Its newest checkpoint before its last start was of `step_before`, -1 if none.
    """
    found = _line_differences(run_dir, reference, is_complete=False)
    found += _image_differences(run_dir, reference, is_complete=False)
    step = newest_step(run_dir)
    if step < step_before:
        found.append(f"checkpoint of step {step_before} is gone, the newest is {step}")
    if step < 0:
        return found
    latest = str(run_dir / "checkpoints/latest")
    try:
        arrays = checkpoints.load(checkpoints.path_of(latest, step))
    except (UsageError, OSError) as error:
        return [*found, f"the newest checkpoint can't be loaded: {error}"]
    return found or _missing_lines(run_dir, reference, arrays)


def _checkpoint_differences(kind: str, run_dir: Path, reference: Path) -> list[str]:
    """Differences between the newest checkpoints of a kind."""
    folders = [str(path / "checkpoints" / kind) for path in (run_dir, reference)]
    found, wanted = map(checkpoints.newest, folders)
    if not found or not wanted:
        return [f"{kind}: checkpoint {found}, in the reference run {wanted}"]
    name, wanted_name = Path(found).name, Path(wanted).name
    if name != wanted_name:
        return [f"{kind}: {name}, in the reference run {wanted_name}"]
    if Path(found).read_bytes() == Path(wanted).read_bytes():
        return []
    try:
        loaded = checkpoints.load(found), checkpoints.load(wanted)
    except UsageError as error:
        return [f"{kind}: {error}"]
    arrays, others = ({(n, a.tobytes()) for n, a in part.items()} for part in loaded)
    names = {array for array, _ in arrays ^ others}
    return [f"{kind}: {name} has different bytes: {_first_names(names)}"]


def _line_differences(run_dir: Path, reference: Path, is_complete: bool) -> list[str]:
    """Differences in the metrics; an incomplete run may lack the last lines."""
    path = run_dir / "metrics.jsonl"
    try:
        lines = read_lines(path)
    except ValueError as error:
        return [str(error)]
    expected = read_lines(reference / path.name)
    for n, (line, wanted) in enumerate(zip(lines, expected, strict=False), 1):
        if line != wanted:
            return [f"{path.name}: line {n} is {line}, in the reference run {wanted}"]
    if len(lines) > len(expected) or (is_complete and len(lines) < len(expected)):
        found = f"{path.name}: {len(lines)} lines"
        return [f"{found}, in the reference run {len(expected)}"]
    if is_complete and not path.read_bytes().endswith(b"\n"):
        return [f"{path.name}: the last line has no end"]
    return []


def _missing_lines(run_dir: Path, reference: Path, arrays: dict[str, Any]) -> list[str]:
    """Missing lines that the checkpoint `arrays` says are written."""
    step, present = int(arrays["step"]), len(read_lines(run_dir / "metrics.jsonl"))
    for line in read_lines(reference / "metrics.jsonl")[present:]:
        if line["step"] <= int(arrays[_WRITTEN[line["split"]]]):
            return [f"lines before the checkpoint of step {step} are gone: {line}"]
    return []


def _image_differences(run_dir: Path, reference: Path, is_complete: bool) -> list[str]:
    """Differences in the images; an incomplete run may lack some."""
    found, expected = (
        {path.name: path.read_bytes() for path in (folder / "images").glob("[!.]*")}
        for folder in (run_dir, reference)
    )
    common = found.keys() & expected.keys()
    kinds = {
        "not in the reference run": found.keys() - expected.keys(),
        "different bytes": {name for name in common if found[name] != expected[name]},
        "missing": expected.keys() - found.keys() if is_complete else (),
    }
    return [f"images: {kind}: {_first_names(n)}" for kind, n in kinds.items() if n]


def _first_names(names: Collection[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(sorted(names)[:3]) + more

"""Event files, of resumed runs as well, and warnings when they can't be written."""

import shutil

import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.plugin_event_accumulator import (
    EventAccumulator,
)

from aelab.summaries.events import EventFile


@pytest.fixture
def warnings():
    return []


def write(events, steps):
    for step in steps:
        events.write(step, lambda step=step: tf.summary.scalar("a", float(step)))


def served(folder):
    """The steps that TensorBoard's own reader returns."""
    accumulator = EventAccumulator(str(folder))
    accumulator.Reload()
    if "a" not in accumulator.Tags()["tensors"]:
        return []
    return [event.step for event in accumulator.Tensors("a")]


def test_a_summary_is_in_the_file_at_once(tmp_path, warnings):
    events = EventFile(str(tmp_path), 0, warnings.append)
    write(events, [1, 2])
    assert served(tmp_path) == [1, 2]
    assert warnings == []


def test_without_a_summary_there_is_no_file(tmp_path, warnings):
    EventFile(str(tmp_path), 0, warnings.append).close()
    assert list(tmp_path.iterdir()) == []


def test_repeated_steps_count_once(tmp_path, warnings):
    """A run that was killed had written summaries after its last checkpoint."""
    killed = EventFile(str(tmp_path), 0, warnings.append)
    write(killed, [10, 20, 30])
    write(EventFile(str(tmp_path), 21, warnings.append), [30, 40])
    assert served(tmp_path) == [10, 20, 30, 40]


def test_files_are_read_in_the_order_of_their_creation(tmp_path, warnings):
    """TensorFlow counts the files of a second, and 10 is sorted before 9."""
    created = []
    for step in range(3):
        write(EventFile(str(tmp_path), step, warnings.append), [step])
        [name] = {path.name for path in tmp_path.iterdir()} - set(created)
        created.append(name)
    assert len({name.split(".")[3] for name in created}) == 3
    assert created == sorted(created)
    assert served(tmp_path) == [0, 1, 2]


def test_a_deleted_folder_is_made_again_with_one_warning(tmp_path, warnings):
    folder = tmp_path / "train"
    events = EventFile(str(folder), 0, warnings.append)
    write(events, [1])
    shutil.rmtree(folder)
    write(events, [2, 3, 4, 5])
    assert len(warnings) == 1
    assert str(folder) in warnings[0]
    assert served(folder) == [4, 5]


def test_a_file_in_place_of_the_folder_warns_once(tmp_path, warnings):
    (tmp_path / "train").touch()
    write(EventFile(str(tmp_path / "train"), 0, warnings.append), [1, 2, 3])
    assert len(warnings) == 1
    assert "train" in warnings[0]


def test_failing_summaries_warn_once(tmp_path, warnings):
    def fail():
        raise tf.errors.ResourceExhaustedError(None, None, "No space left on device")

    events = EventFile(str(tmp_path), 0, warnings.append)
    write(events, [1])
    for step in range(2, 10):
        events.write(step, fail)
    write(events, range(10, 20))
    assert warnings == [
        f"can't write event files in {tmp_path}: No space left on device; TensorBoard "
        "will be incomplete, training continues"
    ]
    assert served(tmp_path) == [1, *range(12, 20)]
    assert len(list(tmp_path.iterdir())) < 6

from aelab.training.messages import machine_change, version_change

MACHINE = {"replicas": 2, "devices": ["CPU:0", "CPU:1"], "xla": True}
VERSIONS = {"python": "3.11", "tensorflow": "2.21.0", "keras": "3.15.1"}


def test_the_same_machine_and_versions_are_not_mentioned():
    assert machine_change(MACHINE, dict(MACHINE)) == ""
    assert version_change(VERSIONS, dict(VERSIONS)) == ""
    assert version_change(VERSIONS, VERSIONS | {"python": "3.12"}) == ""


def test_a_run_that_recorded_nothing_is_not_compared():
    assert machine_change({}, MACHINE) == ""
    assert version_change({}, VERSIONS) == ""


def test_other_devices_are_reported():
    text = machine_change(MACHINE, MACHINE | {"replicas": 1, "devices": ["CPU:0"]})
    assert "(2 replicas on CPU:0, CPU:1, XLA on)" in text
    assert "match only up to rounding" in text


def test_other_versions_are_reported():
    text = version_change(VERSIONS, VERSIONS | {"keras": "3.16.0"})
    assert "(keras 3.15.1 -> 3.16.0): from here on, results may differ" in text

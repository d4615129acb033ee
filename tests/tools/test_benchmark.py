"""The counts and texts of tools/benchmark.py, and that it measures; never how fast."""

import dataclasses
import json

import benchmark
import keras
import numpy as np
import pytest
import tensorflow as tf
from benchmarking import comparison as comparisons
from benchmarking import fit, jobs, scale
from benchmarking.limit import flops_per_image
from benchmarking.machine import require_device
from benchmarking.recipes import SETTINGS, measured_row, recipe, row_config
from compare_with_fit import STOCK_MODELS
from conftest import run_script

from aelab.data.gaussian import gaussian
from aelab.data.randomness import Key
from aelab.data.sources import Source
from aelab.errors import UsageError

QUICK = {variant: settings["quick"][0] for variant, settings in SETTINGS.items()}
# Multiplications of one image in the forward pass, layer by layer.
DENSE = [28 * 28 * 32, 32 * 28 * 28]
CONV = [
    28 * 28 * 3 * 3 * 1 * 32,
    14 * 14 * 3 * 3 * 32 * 32,
    7 * 7 * 3 * 3 * 32 * 32,
    14 * 14 * 3 * 3 * 32 * 32,
    28 * 28 * 3 * 3 * 32 * 1,
]


@pytest.mark.parametrize(
    ("model", "products", "total"),
    [("dense", DENSE, 250_880), ("conv", CONV, 26_643_456)],
)
def test_flops_equal_a_count_by_hand(model, products, total):
    first, *rest = products
    assert 2 * 2 * first + 3 * 2 * sum(rest) == total
    network = STOCK_MODELS[model](recipe(model), (28, 28, 1))
    assert flops_per_image(network) == total


def record(row, variant, number, setting=None, **result):
    about = {"row": row, "variant": variant, "round": number, "setting": setting}
    return {k: v for k, v in about.items() if v is not None} | result


@pytest.fixture
def comparison():
    """Two rounds, in which PyTorch took half of our time and fit twice as much."""
    rows = ["dense-float32", "conv-float32", "conv-bfloat16"]
    records = []
    for number in (1, 2):
        records.append(record("", "limit", number, gflops=100))
        for row in rows:
            records.append(record(row, "ours", number, {}, ms=20.0 + 4 * number - 6))
            records.append(record(row, "torch", number, QUICK["torch"], ms=10.0))
        for row in rows[:2]:
            records.append(record(row, "fit", number, QUICK["fit"], ms=40.0))
    versions = {"python": "3.13.1", "tensorflow": "2.21.0", "torch": "2.9"}
    return dict(
        machine={"cpu": "A CPU", "cores": 3, "gpu": None, "versions": versions},
        device="cpu",
        rounds=2,
        seconds=10.0,
        is_quick=False,
        batch_sizes={row: row_config(row).batch_size for row in rows},
        flops_per_step={"dense-float32": 5 * 10**8, "conv-float32": 10**9},
        trials=[],
        records=records,
    )


def fail(comparison, row, variant, error, rounds=(1, 2)):
    """Replaces the measurements of a variant by a failure in some rounds."""
    for r in comparison["records"]:
        if (r["row"], r["variant"]) == (row, variant) and r["round"] in rounds:
            del r["gflops" if variant == "limit" else "ms"]
            r["error"] = error


def remove_torch(comparison):
    comparison["records"] = [
        r for r in comparison["records"] if r["variant"] != "torch"
    ]


def lines_of(text, row, variant):
    return [line for line in text.splitlines() if f"| {row} | {variant} |" in line]


def test_the_table_has_medians_ratios_and_shares(comparison):
    text = comparisons.text(comparison)
    (ours,) = lines_of(text, "dense-float32", "ours")
    (fit_line,) = lines_of(text, "dense-float32", "fit")
    (torch_line,) = lines_of(text, "conv-float32", "torch")
    # 5e8 FLOP at 1e11 FLOP/s take 5 ms.
    assert ours.endswith("| 12,800 | 20.00 (18.00 to 22.00) | 1.00 | 25.0% |")
    assert fit_line.endswith("| 6,400 | 40.00 (40.00 to 40.00) | 2.00 | 12.5% |")
    assert torch_line.endswith("| 12,800 | 10.00 (10.00 to 10.00) | 0.50 | 100.0% |")
    assert "steps_per_execution=20, jit_compile=False, oneDNN on" in fit_line
    assert "A CPU, 3 cores" in text and "torch 2.9" in text
    assert "one fixed noisy copy" in text and "2 rounds in turn" in text
    assert "short" not in text and "failed" not in text


def test_a_bfloat16_row_shows_fit_in_float32(comparison):
    (line,) = lines_of(comparisons.text(comparison), "conv-bfloat16", "fit")
    assert "| float32, steps" in line and "| 2.00 |" in line
    assert line.endswith("|  |")  # its FLOPs are not in this report


def test_on_a_gpu_a_row_shows_fit_in_its_own_precision(comparison):
    comparison["device"] = "gpu"
    comparison["records"].append(
        record("conv-bfloat16", "fit", 1, QUICK["fit"], ms=60.0)
    )
    text = comparisons.text(comparison)
    (line,) = lines_of(text, "conv-bfloat16", "fit")
    assert "| steps" in line and "| 3.00 |" in line
    assert "TF32" in text and "all cores:" not in text


def test_without_pytorch_the_table_says_how_to_install_it(comparison):
    comparison["machine"]["versions"]["torch"] = None
    remove_torch(comparison)
    text = comparisons.text(comparison)
    (line,) = lines_of(text, "conv-float32", "torch")
    assert "pip install -c constraints.txt -e '.[bench]'" in line
    assert "torch None" not in text


def test_a_failed_variant_is_shown_with_its_error(comparison):
    fail(comparison, "conv-bfloat16", "torch", "RuntimeError: a | b")
    fail(comparison, "dense-float32", "ours", "ended by signal 9", rounds=[1])
    text = comparisons.text(comparison)
    (line,) = lines_of(text, "conv-bfloat16", "torch")
    assert r"| failed: RuntimeError: a \| b |" in line
    (ours,) = lines_of(text, "dense-float32", "ours")
    assert "| 22.00 (22.00 to 22.00) |" in ours
    assert "dense-float32, ours: 1 of 2 rounds failed: ended by signal 9" in text


def test_a_failed_limit_is_shown_with_its_error(comparison):
    fail(comparison, "", "limit", "ImportError: none")
    text = comparisons.text(comparison)
    assert "all cores: not measured (ImportError: none)" in text
    assert lines_of(text, "dense-float32", "ours")[0].endswith("| 1.00 |  |")


def test_tried_settings_are_listed(comparison):
    settings = SETTINGS["fit"]["cpu"][0], SETTINGS["torch"]["cpu"][-1]
    comparison["trials"] = [
        record("dense-float32", "fit", None, settings[0], ms=3.0),
        record("conv-float32", "torch", None, settings[1], error="No g++"),
    ]
    text = comparisons.text(comparison)
    assert "oneDNN off | 3.00 |" in text
    assert "torch.compile, all cores, passive waits | failed: No g++ |" in text


def test_a_peer_without_a_working_setting_shows_the_error(comparison):
    remove_torch(comparison)
    comparison["trials"] = [
        record("dense-float32", "torch", None, setting, error="No memory")
        for settings in SETTINGS["torch"].values()
        for setting in settings
    ]
    text = comparisons.text(comparison)
    lines = lines_of(text, "dense-float32", "torch")
    (line,) = [line for line in lines if line.count("|") == 8]
    assert "failed: No memory" in line


def test_a_missing_gpu_is_an_error(monkeypatch):
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [])
    with pytest.raises(UsageError, match="--device=gpu"):
        require_device("gpu")
    require_device("cpu")


def test_the_fastest_setting_is_chosen():
    first, second, third = SETTINGS["fit"]["cpu"][:3]
    row = "dense-float32", "fit"
    records = [
        record(*row, 1, first, ms=3.0),
        record(*row, 1, second, ms=2.0),
        record(*row, 1, third, error="no"),
    ]
    assert comparisons.fastest(records) == second
    assert comparisons.fastest(records[2:]) is None


def test_a_quick_report_says_so(comparison):
    comparison["is_quick"], comparison["rounds"] = True, 1
    text = comparisons.text(comparison)
    assert text.startswith("This is the report of one short round")
    assert "Medians of one round" in text


def test_the_peers_have_noise_like_ours(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (500, 8, 8, 1), np.uint8)
    np.save(tmp_path / "images.npy", images)
    config = recipe("conv")
    x, y = jobs.peers_data(str(tmp_path / "images.npy"), config)
    assert x.dtype == y.dtype == np.float32
    np.testing.assert_array_equal(y, images / np.float32(255))
    assert x.min() == 0 and x.max() == 1
    ours = gaussian(y, Key(np.int64(1), np.int64(0)), config).numpy()
    assert (x - y).std() == pytest.approx((ours - y).std(), rel=0.02)
    clean, target = jobs.peers_data(str(tmp_path / "images.npy"), recipe("dense"))
    assert clean is target


@pytest.mark.parametrize(
    ("available", "step_seconds", "seconds", "batches"),
    [
        (234, 0.001, 10, 220),  # all, in whole calls of 20
        (468, 0.1, 10, 40),  # half of the time
        (468, 1.0, 10, 20),  # the minimum
        (3, 0.001, 10, 3),  # there are no more
    ],
)
def test_batches_per_epoch(available, step_seconds, seconds, batches):
    assert fit._batches_per_epoch(available, step_seconds, seconds) == batches


def test_the_first_epoch_does_not_count():
    class Model:
        stop_training = False

    moments = iter([0.0, 101.0, 103.0, 104.0, 107.0])
    timer = fit.EpochTimer(5.0, lambda: next(moments))
    timer.set_model(Model())
    stopped = []
    for epoch in range(3):
        timer.on_epoch_begin(epoch)
        timer.on_epoch_end(epoch)
        stopped.append(timer.model.stop_training)
    assert timer.times == [2.0, 3.0]
    assert stopped == [False, False, True]


def test_a_repeating_source_is_a_source():
    images = np.arange(3 * 4 * 4, dtype=np.uint8).reshape(3, 4, 4, 1)
    source = scale.RepeatingSource(images, 6_000_000)
    assert len(source) == 6_000_000
    assert source.image_shape == (4, 4, 1)
    indices = np.array([0, 2, 3, 5_999_999], np.int64)
    np.testing.assert_array_equal(source.read(indices), images[[0, 2, 0, 2]])
    assert len(source.take(7)) == 7
    assert [len(part) for part in source.divide(7)] == [5_999_993, 7]
    again = scale.RepeatingSource(images.copy(), 6_000_000)
    assert source.fingerprint == again.fingerprint
    others = [source.take(7), scale.RepeatingSource(images + 1, 6_000_000)]
    assert source.fingerprint not in [other.fingerprint for other in others]
    assert {n for n in vars(Source) if not n.startswith("_")} <= set(dir(source))


@pytest.mark.parametrize(("size", "count"), [(28, 100), (56, 25), (256, 1)])
def test_images_are_resized_to_the_nearest_pixel(size, count):
    images = np.random.default_rng(0).integers(0, 256, (100, 28, 28, 1), np.uint8)
    larger = scale.resized(images, size)
    assert larger.shape == (count, size, size, 1)
    for row, column in ((0, 0), (size // 3, size // 2), (size - 1, size - 1)):
        nearest = images[:count, row * 28 // size, column * 28 // size]
        np.testing.assert_array_equal(larger[:, row, column], nearest)


def test_the_scale_table_has_speed_and_memory():
    case = {"model": "conv", "examples": 60_000, "batch_size": 32, "image_size": 64}
    good = case | {"ms": 8.0, "peak_bytes": 512_000_000, "source_bytes": 4_700_000}
    machine = {"cpu": "A CPU", "cores": 2, "gpu": None, "versions": {}}
    report = {"machine": machine, "seconds": 1.0}
    text = scale.text(report | {"records": [good, case | {"error": "no memory"}]})
    assert "| conv | 60,000 | 32 | 64 x 64 | 4,000 | 8.00 | 512.0 | 4.7 |" in text
    assert "| 64 x 64 | failed: no memory |" in text


def test_scale_measures_every_case_once():
    cases = scale.cases()
    for model in ("dense", "conv"):
        of_model = [case for case in cases if case["model"] == model]
        assert {c["examples"] for c in of_model} >= {6_000, 6_000_000}
        assert {c["batch_size"] for c in of_model} >= {32, 4096}
        assert {c["image_size"] for c in of_model} == {28, 64, 128, 256}
    assert all(cases.count(case) == 1 for case in cases)


@pytest.mark.parametrize(
    ("flag", "names"),
    [
        ("--rounds=0", ["--rounds", "at least 1", "'0'"]),
        ("--rounds=many", ["--rounds", "'many'"]),
        ("--seconds=0", ["--seconds", "above 0"]),
        ("--seconds=inf", ["--seconds", "'inf'"]),
        ("--seconds=soon", ["--seconds", "'soon'"]),
        ("--rows=dense", ["--rows", "dense-float32", "'dense'"]),
        ("--mode=start --device=gpu", ["--mode", "CPUs"]),
        ("--device=tpu", ["--device", "gpu"]),
        ("--rows=conv-float32,conv-float32", ["--rows", "each once"]),
        ("--examples=100", ["--examples", "at least 256"]),
        ("--mode=fast", ["--mode", "quick"]),
        ("--json=nonesuch/report.json", ["--json", "no such folder"]),
    ],
)
def test_a_bad_flag_is_an_error(flag, names, capsys):
    with pytest.raises(UsageError) as error:
        benchmark.main(["benchmark.py", "--quick", *flag.split()])
    assert capsys.readouterr().out == ""
    assert all(name in str(error.value) for name in names)


def test_a_usage_error_ends_the_process_with_exit_code_2():
    result = run_script("benchmark", "--quick", "--rounds=0")
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("error: --rounds")


def test_a_job_runs_in_its_own_process(tmp_path, monkeypatch):
    """The process is a stand-in for benchmark.py, which would start TensorFlow."""
    script = tmp_path / "stand_in.py"
    script.write_text(
        "import json, os, sys\n"
        "print('a message')\n"
        "print(json.dumps({'arguments': sys.argv[1:], 'environment': {**os.environ}}))"
    )
    monkeypatch.setattr(jobs, "_SCRIPT", script)
    monkeypatch.setenv("OMP_WAIT_POLICY", "passive")
    job = {"kind": "fit", "device": "cpu", "seconds": 1, "setting": QUICK["fit"]}
    result = jobs.run_in_process(job, tmp_path)
    flag, text = result["arguments"]
    assert (flag, json.loads(text)) == ("--job", job)
    assert result["environment"]["CUDA_VISIBLE_DEVICES"] == "-1"
    assert result["environment"]["TF_ENABLE_ONEDNN_OPTS"] == "1"
    assert "OMP_WAIT_POLICY" not in result["environment"]


def test_a_job_prints_its_result(capsys):
    configs = {"dense": dataclasses.asdict(recipe("dense"))}
    job = {"kind": "limit", "device": "cpu", "seconds": 0.01, "configs": configs}
    benchmark.main(["benchmark.py", "--job", json.dumps(job)])
    result = json.loads(capsys.readouterr().out)
    assert result.pop("flops") == {"dense": 256 * 250_880}
    assert result.pop("gflops") > 0
    assert result == {}


def test_a_failed_process_gives_its_last_error_line(tmp_path):
    result = jobs.run_in_process({"kind": "nonesuch", "device": "cpu"}, tmp_path)
    assert result == {"error": "KeyError: 'nonesuch'"}


@pytest.mark.slow
def test_a_quick_report_of_a_row_in_bfloat16(tmp_path, monkeypatch, capsys):
    """Its `Model.fit` runs in float32. CI reports the rows in processes."""
    path, row = tmp_path / "report.json", "dense-bfloat16"

    def run_here(job, folder):
        if job["kind"] == "torch":
            return jobs.run_in_process(job, folder)
        return jobs.run_job(job)

    monkeypatch.setattr("benchmarking.comparison.run_in_process", run_here)
    monkeypatch.setattr("aelab.system.startup.start_tensorflow", lambda **_: None)
    small = ("--seconds=0.1", "--examples=512", f"--rows={row}")
    benchmark.main(["benchmark.py", "--quick", *small, f"--json={path}"])
    output, errors = capsys.readouterr()
    assert errors == ""
    assert "This is the report of one short round" in output
    report = json.loads(path.read_text())
    assert report["flags"]["rows"] == [row]
    assert report["machine"]["cores"] >= 1 and report["machine"]["cpu"]
    measured = {(r["row"], r["variant"]): r for r in report["records"]}
    wanted = {("", "limit"), (row, "ours"), (measured_row(row, "fit", "cpu"), "fit")}
    if report["machine"]["versions"]["torch"]:
        wanted.add((row, "torch"))
    assert set(measured) == wanted
    assert all(r.get("ms", r.get("gflops", 0)) > 0 for r in measured.values()), measured
    assert report["flops_per_step"] == {row: 256 * 250_880}
    for variant in ("ours", "fit", "torch"):
        assert len(lines_of(output, row, variant)) == 1


@pytest.fixture(autouse=True)
def _keep_precision():
    """Restores Keras' policy, which measurements change."""
    policy = keras.mixed_precision.global_policy()
    yield
    keras.mixed_precision.set_global_policy(policy)

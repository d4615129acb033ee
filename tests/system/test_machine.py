import os

from aelab.system.machine import cpu_name, rounding_variables


def test_the_processor_has_a_name():
    assert cpu_name().strip() == cpu_name() != ""


def test_only_variables_that_are_set_are_listed(monkeypatch):
    for name in list(os.environ):
        if name.startswith(("TF_", "ONEDNN_", "DNNL_", "NVIDIA_", "XLA_")):
            monkeypatch.delenv(name)
    assert rounding_variables() == {}
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "0")
    monkeypatch.setenv("XLA_FLAGS", "")
    monkeypatch.setenv("DNNL_MAX_CPU_ISA", "AVX2")
    monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", "4")
    assert rounding_variables() == {
        "NVIDIA_TF32_OVERRIDE": "0",
        "DNNL_MAX_CPU_ISA": "AVX2",
        "TF_NUM_INTRAOP_THREADS": "4",
    }

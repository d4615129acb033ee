import os
from pathlib import Path

import pytest

from aelab.system.machine import (
    cpu_instructions,
    cpu_model,
    cpu_name,
    rounding_variables,
)

CPUINFO = """\
processor\t: 0
cpu family\t: 26
model\t\t: 2
model name\t: AMD EPYC
flags\t\t: fpu avx2 avx512f fma avx avx512_bf16 avx5124

processor\t: 1
cpu family\t: 27
"""


@pytest.fixture
def cpuinfo(monkeypatch):
    """Sets what /proc/cpuinfo contains; None: it can't be read."""

    def read_text(path, **options):
        assert str(path) == "/proc/cpuinfo"
        if content["text"] is None:
            raise PermissionError
        return content["text"]

    content = {}
    monkeypatch.setattr(Path, "read_text", read_text)
    return content


def test_the_processor_has_a_name():
    assert cpu_name().strip() == cpu_name() != ""


def test_the_processor_is_described_by_more_than_its_name(cpuinfo):
    cpuinfo["text"] = CPUINFO
    assert cpu_name() == "AMD EPYC"
    assert cpu_model() == "family 26, model 2"
    assert cpu_instructions() == ["avx", "avx2", "fma", "avx512f", "avx512_bf16"]


@pytest.mark.parametrize("text", [None, "", "Features : fp asimd"])
def test_an_unknown_processor_is_no_error(cpuinfo, text):
    cpuinfo["text"] = text
    assert cpu_name()
    assert (cpu_model(), cpu_instructions()) == ("", [])


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

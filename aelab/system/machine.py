"""The processor, and settings of the environment that change rounding or speed."""

import os
import platform
import re
from pathlib import Path

# Variables that TensorFlow, oneDNN (under two names), XLA and CUDA read.
_ROUNDING = (
    *("TF_NUM_INTRAOP_THREADS", "TF_ENABLE_ONEDNN_OPTS", "TF_SET_ONEDNN_FPMATH_MODE"),
    *("ONEDNN_MAX_CPU_ISA", "ONEDNN_DEFAULT_FPMATH_MODE"),
    *("DNNL_MAX_CPU_ISA", "DNNL_DEFAULT_FPMATH_MODE"),
    *("NVIDIA_TF32_OVERRIDE", "TF_XLA_FLAGS", "XLA_FLAGS"),
)


# Instruction sets by which TensorFlow and its libraries choose their code.
_INSTRUCTIONS = (
    *("avx", "avx2", "fma", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16"),
    *("avx512_fp16", "amx_bf16", "amx_fp16"),
)


def cpu_name() -> str:
    """The processor's name. On a virtual machine several processors may share one."""
    return _cpu_info("model name") or platform.processor() or platform.machine()


def cpu_model() -> str:
    """The processor's family and model, such as "family 25, model 1"; "" if unknown."""
    numbers = _cpu_info("cpu family"), _cpu_info("model")
    return "family {}, model {}".format(*numbers) if all(numbers) else ""


def cpu_instructions() -> list[str]:
    """The processor's instruction sets that matter here, such as "avx512_bf16"."""
    flags = _cpu_info("flags").split()
    return [name for name in _INSTRUCTIONS if name in flags]


def _cpu_info(field: str) -> str:
    """A field of the first processor in /proc/cpuinfo; "" if there is none."""
    try:
        text = Path("/proc/cpuinfo").read_text(errors="replace")
    except OSError:
        return ""
    found = re.search(rf"^{field}\s*:(.*)$", text, re.MULTILINE)
    return found[1].strip() if found else ""


def rounding_variables() -> dict[str, str]:
    """The variables of the environment that change rounding and are set."""
    return {name: os.environ[name] for name in _ROUNDING if os.environ.get(name)}

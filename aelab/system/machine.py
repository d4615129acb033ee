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


def cpu_name() -> str:
    """The processor's model."""
    file = Path("/proc/cpuinfo")
    text = file.read_text(errors="replace") if file.exists() else ""
    name = re.search(r"^model name\s*:(.*)$", text, re.MULTILINE)
    return name[1].strip() if name else platform.processor() or platform.machine()


def rounding_variables() -> dict[str, str]:
    """The variables of the environment that change rounding and are set."""
    return {name: os.environ[name] for name in _ROUNDING if os.environ.get(name)}

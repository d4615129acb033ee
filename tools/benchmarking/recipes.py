"""The textbook's two autoencoders, and the settings that each peer may have."""

import itertools
from typing import Any

from aelab.config import Config

Setting = dict[str, Any]

_COMMON = {"loss": "bce", "optimizer": "adadelta", "learning_rate": 1.0}
_RECIPES: dict[str, dict[str, Any]] = {
    "dense": {**_COMMON, "batch_size": 256, "l1_activity": 1e-4},
    "conv": {**_COMMON, "batch_size": 128, "noise_stddev": 0.5},
}
MODELS = tuple(_RECIPES)
# Row, for example `conv-bfloat16` -> (recipe, precision in `Config`).
ROWS = {
    f"{model}-{precision.removeprefix('mixed_')}": (model, precision)
    for model in MODELS
    for precision in ("float32", "mixed_bfloat16")
}
_CPU_ROWS = ("dense-float32", "conv-float32", "conv-bfloat16")
DEFAULT_ROWS = {"cpu": _CPU_ROWS, "gpu": tuple(ROWS)}


def _fit_setting(steps: int, jit: bool, onednn: bool = True) -> Setting:
    return {"steps_per_execution": steps, "jit_compile": jit, "onednn": onednn}


def _torch_setting(
    compiled: bool, graphs: str = "", all_cores: bool = True, passive: bool = False
) -> Setting:
    # With `compiled`, torch.compile compiles forward pass and loss. CUDA `graphs` are
    # replayed instead of launching kernels one by one: torch.compile's graphs of both
    # passes (`passes`), or one of the whole step (`step`). Waiting threads sleep if
    # `passive`. Else they spin, which costs most of the time if another process needs
    # a core as well.
    setting = {"compiled": compiled, "graphs": graphs}
    return setting | {"all_cores": all_cores, "passive": passive}


# By variant and device, or `quick`. Trials determine the fastest of several.
SETTINGS: dict[str, dict[str, list[Setting]]] = {
    "ours": {
        "cpu": [{}],
        "gpu": [{"jit_compile": jit} for jit in ("false", "true")],
        "quick": [{}],
    },
    "fit": {
        "cpu": [
            _fit_setting(*options)
            for options in itertools.product((1, 20), (False, True), (False, True))
        ],
        "gpu": [_fit_setting(20, jit) for jit in (False, True)],
        "quick": [_fit_setting(20, False)],
    },
    "torch": {
        "cpu": [
            *(_torch_setting(False, passive=passive) for passive in (False, True)),
            _torch_setting(False, all_cores=False),
            *(_torch_setting(True, passive=passive) for passive in (False, True)),
        ],
        "gpu": [
            _torch_setting(False),
            *(_torch_setting(True, graphs) for graphs in ("passes", "step")),
        ],
        "quick": [_torch_setting(False, passive=True)],
    },
}


def recipe(model: str, precision: str = "float32", **fields: Any) -> Config:
    """The configuration of a textbook recipe, one of `MODELS`, except `fields`."""
    values = _RECIPES[model] | {"precision": precision} | fields
    return Config(dataset="synthetic", model=model, **values)


def row_config(row: str) -> Config:
    """The configuration of a row of the table."""
    return recipe(*ROWS[row])


def measured_row(row: str, variant: str, device: str) -> str:
    """The row whose measurement of a variant is shown in this row.

    On a CPU, `Model.fit` is measured in float32, where it is faster than in bfloat16.
    """
    is_shared = variant == "fit" and device == "cpu"
    return f"{ROWS[row][0]}-float32" if is_shared else row


def setting_text(variant: str, setting: Setting) -> str:
    """A setting in words."""
    if variant == "ours":
        xla = {"true": ", XLA", "false": ", no XLA"}
        return "20 steps per call" + xla.get(setting.get("jit_compile", ""), "")
    if variant == "fit":
        words = [f"{n}={setting[n]}" for n in ("steps_per_execution", "jit_compile")]
        return ", ".join([*words, f"oneDNN {'on' if setting['onednn'] else 'off'}"])
    words = ["torch.compile" if setting["compiled"] else "eager"]
    if setting["graphs"]:
        words.append(f"CUDA graphs ({setting['graphs']})")
    words.append("all cores" if setting["all_cores"] else "one core")
    return ", ".join(words + ["passive waits"] * setting["passive"])

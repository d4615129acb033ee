"""What is measured: the textbook's two autoencoders, and how each peer may be set."""

import dataclasses
import itertools
from typing import Any

from aelab.config import Config

Setting = dict[str, Any]
Record = dict[str, Any]

_RECIPES: dict[str, dict[str, Any]] = {
    "dense": {"model": "dense", "batch_size": 256, "l1_activity": 1e-4},
    "conv": {"model": "conv", "batch_size": 128, "noise_stddev": 0.5},
}
_COMMON: dict[str, Any] = {
    "dataset": "synthetic",
    "loss": "bce",
    "optimizer": "adadelta",
    "learning_rate": 1.0,
}
# Row -> (recipe, precision as `Config` names it).
ROWS = {
    "dense-float32": ("dense", "float32"),
    "dense-bfloat16": ("dense", "mixed_bfloat16"),
    "conv-float32": ("conv", "float32"),
    "conv-bfloat16": ("conv", "mixed_bfloat16"),
}
DEFAULT_ROWS = {
    "cpu": ("dense-float32", "conv-float32", "conv-bfloat16"),
    "gpu": tuple(ROWS),
}
MODELS = tuple(_RECIPES)


def _fit_setting(steps: int, jit: bool, onednn: bool = True) -> Setting:
    return {"steps_per_execution": steps, "jit_compile": jit, "onednn": onednn}


def _torch_setting(
    compiled: bool, graphs: str = "", all_cores: bool = True, passive: bool = False
) -> Setting:
    """A setting of PyTorch.

    Threads that wait for each other spin, unless they are told to be `passive`; that
    costs most of the time where something else needs a core as well. CUDA `graphs` are
    replayed, instead of kernels launched one by one: those that torch.compile makes of
    forward and backward pass (`passes`), or one of the whole `step`.
    """
    return {
        "compiled": compiled,
        "graphs": graphs,
        "all_cores": all_cores,
        "passive": passive,
    }


# By variant and device; the fastest is found out where there are several.
SETTINGS: dict[str, dict[str, list[Setting]]] = {
    "ours": {
        "cpu": [{}],
        "gpu": [{"jit_compile": "false"}, {"jit_compile": "true"}],
    },
    "fit": {
        "cpu": [
            _fit_setting(steps, jit, onednn)
            for steps, jit, onednn in itertools.product(
                (1, 20), (False, True), (False, True)
            )
        ],
        "gpu": [_fit_setting(20, False), _fit_setting(20, True)],
    },
    "torch": {
        "cpu": [
            _torch_setting(False),
            _torch_setting(False, passive=True),
            _torch_setting(False, all_cores=False),
            _torch_setting(True),
            _torch_setting(True, passive=True),
        ],
        "gpu": [
            _torch_setting(False),
            _torch_setting(True, "passes"),
            _torch_setting(True, "step"),
        ],
    },
}
# What `--quick` takes without trying.
QUICK: dict[str, Setting] = {
    "ours": {},
    "fit": _fit_setting(20, False),
    "torch": _torch_setting(False, passive=True),
}


def recipe(model: str, precision: str = "float32", **fields: Any) -> Config:
    """The configuration of a textbook recipe.

    Args:
      model: a key of the recipes, `dense` or `conv`.
      precision: as `Config` names it.
      **fields: what is to be otherwise.
    """
    values = _COMMON | _RECIPES[model] | {"precision": precision} | fields
    return Config(**values)


def row_config(row: str) -> Config:
    """The configuration of a row of the table."""
    return recipe(*ROWS[row])


def fit_row(row: str, device: str) -> str:
    """The row whose fit stands in this row.

    On a CPU that is the one of float32, where fit is faster than in bfloat16.
    """
    return row if device == "gpu" else f"{ROWS[row][0]}-float32"


def fields_of(config: Config) -> dict[str, Any]:
    """A configuration as JSON can hold it."""
    return dataclasses.asdict(config)


def setting_text(variant: str, setting: Setting | None) -> str:
    """A setting in words, for people; all there are, where there is no choice."""
    if setting is None:
        return ""
    if variant == "ours":
        xla = {"true": ", XLA", "false": ", no XLA"}
        return "20 steps a call" + xla.get(setting.get("jit_compile", ""), "")
    if variant == "torch":
        words = ["torch.compile" if setting["compiled"] else "eager"]
        if setting["graphs"]:
            words.append(f"CUDA graphs ({setting['graphs']})")
        words.append("all cores" if setting["all_cores"] else "one core")
        return ", ".join(words + ["passive waits"] * setting["passive"])
    words = [f"{n}={setting[n]}" for n in ("steps_per_execution", "jit_compile")]
    return ", ".join([*words, f"oneDNN {'on' if setting['onednn'] else 'off'}"])


def of_task(records: list[Record], row: str, variant: str) -> list[Record]:
    """The records of a row's variant, in order."""
    return [r for r in records if (r["row"], r["variant"]) == (row, variant)]


def values_of(records: list[Record], name: str) -> list[float]:
    """The measured numbers among records, without those that failed."""
    return [record[name] for record in records if name in record]


def fastest(records: list[Record]) -> Setting | None:
    """The setting with the smallest time, None if every measurement failed."""
    times: dict[str, list[float]] = {}
    settings: dict[str, Setting] = {}
    for record in records:
        if "ms" in record:
            key = repr(record["setting"])
            settings[key] = record["setting"]
            times.setdefault(key, []).append(record["ms"])
    if not times:
        return None
    return settings[min(times, key=lambda key: min(times[key]))]

"""tools/compare_with_fit.py refuses bad flags before any training."""

import compare_with_fit
import pytest

from aelab.config import Config
from aelab.errors import UsageError


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"loss": "log_mse"}, "--loss=log_mse can't be compared"),
        ({"model": "resunet", "loss": "mse"}, "--model=resunet can't be compared"),
        ({"weight_average": 0.9}, "--weight_average=0.9 can't be compared"),
        ({"gradient_clip_norm": 1.0}, "--gradient_clip_norm=1.0 can't be compared"),
        ({"optimizer": "adamw"}, "--optimizer=adamw can't be compared"),
    ],
)
def test_a_recipe_that_fit_does_not_get_is_refused(values, message):
    compare_with_fit.check(Config())
    with pytest.raises(UsageError, match=message):
        compare_with_fit.check(Config(**values))

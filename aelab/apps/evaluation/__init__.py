"""Evaluates a trained model against simple baselines."""

from aelab.apps.evaluation.evaluate import evaluate_run
from aelab.apps.evaluation.table import table

__all__ = ["evaluate_run", "table"]

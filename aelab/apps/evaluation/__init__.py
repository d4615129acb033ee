"""Judging a trained model beside the floors that it must beat."""

from aelab.apps.evaluation.evaluate import evaluate_run
from aelab.apps.evaluation.table import table

__all__ = ["evaluate_run", "table"]

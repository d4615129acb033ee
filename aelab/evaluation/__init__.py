"""Judging a trained model beside the floors that it must beat."""

from aelab.evaluation.evaluate import evaluate_run
from aelab.evaluation.table import table

__all__ = ["evaluate_run", "table"]

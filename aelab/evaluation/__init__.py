"""Judging a trained model beside the floor that it must beat."""

from aelab.evaluation.evaluate import evaluate_run, table

__all__ = ["evaluate_run", "table"]

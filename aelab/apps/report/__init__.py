"""One HTML page on runs and studies: curves, pictures, metrics, configurations."""

from aelab.apps.report.page import write_report

__all__ = ["write_report"]

"""One HTML page on one or several runs: curves, pictures, metrics, configurations."""

from aelab.apps.report.page import write_report

__all__ = ["write_report"]

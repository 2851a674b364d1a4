"""report.html of an evaluation: one page without scripts or external files, made from the files of its folder."""

from .report import report

__all__ = ["report"]

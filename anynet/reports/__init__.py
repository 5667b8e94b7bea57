"""Reports: what became of a run, as one page of HTML that needs nothing else."""

from anynet.reports.page import html_of, report, short_html
from anynet.reports.reported import ReportedRun

__all__ = ["ReportedRun", "html_of", "report", "short_html"]

"""Reports: what became of a run, as one page of HTML that needs nothing else."""

import os

# in the wheel the modules lie in an archive (hatch_build.py)
__path__.append(os.path.join(__path__[0], "inside.zip"))

from anynet.reports.page import html_of, report, short_html  # noqa: E402
from anynet.reports.reported import ReportedRun  # noqa: E402

__all__ = ["ReportedRun", "html_of", "report", "short_html"]

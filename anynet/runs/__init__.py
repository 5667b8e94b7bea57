"""Runs: trained networks that are opened again, trained on data in one call, listed, compared and verified."""

from anynet.runs.comparing import Comparison, Listing, compare, runs_in
from anynet.runs.diverging import Divergence, diff
from anynet.runs.reading import RunError
from anynet.runs.run import Run
from anynet.runs.run import open_run as open
from anynet.runs.run import report as report
from anynet.runs.trace_checks import TraceCheck, TraceRow, check_trace
from anynet.runs.tracing import Program, record_trace
from anynet.runs.training import resume, train_on
from anynet.runs.verifying import Replay, Verification, replay, verify

__all__ = [
    "Comparison", "Divergence", "Listing", "Program", "Replay", "Run", "RunError", "TraceCheck", "TraceRow", "Verification",
    "check_trace", "compare", "diff", "open", "record_trace", "replay", "report", "resume", "runs_in", "train_on", "verify",
]  # fmt: skip

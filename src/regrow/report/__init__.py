"""Records and figures -> reports, insights, alarms, targets. Pure: time and language come in as values.

The keys of the reports are the guide's (G11, G12); what stands beside them is ours.
"""

from regrow.report.diagnosis import diagnose
from regrow.report.handled import processing
from regrow.report.insight import analysis
from regrow.report.measure import THRESHOLDS, Breach, Target, Thresholds, breach_text, breaches, over_text, targets

__all__ = [
    "THRESHOLDS",
    "Breach",
    "Target",
    "Thresholds",
    "analysis",
    "breach_text",
    "breaches",
    "diagnose",
    "over_text",
    "processing",
    "targets",
]

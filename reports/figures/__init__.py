"""Figures of a report, one idea a file; each function returns figures, or none where the records do not hold them."""

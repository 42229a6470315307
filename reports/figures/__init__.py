"""Figures of a report. Each function returns figures, and none if the records lack the data."""

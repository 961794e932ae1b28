"""Judging a model on the host: events, rates with intervals, the cutoff, DET curves and reports."""

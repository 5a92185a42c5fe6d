"""Answers become documents: the reports of naicreport, one module each."""

"""Answers become documents: the reports of naicreport."""

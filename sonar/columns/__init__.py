"""Columns are made from the log, refreshed, listed; roll-ups with them."""

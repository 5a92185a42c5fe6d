"""Files become tables: readers of every record format, and the scan over a log tree."""

"""Tables become streams and streams become answers: pure functions on columns; no files, no clock."""

"""Where records lie on disk: paths, days, and the write-ahead spool that makes them durable."""

"""Tables become text: fixed columns, CSV, JSON, awk."""

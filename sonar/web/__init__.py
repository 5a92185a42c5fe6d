"""The query server: its HTTP interface and its pages."""

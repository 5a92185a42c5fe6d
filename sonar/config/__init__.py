"""Configuration files: reading, checking, and errors that name file and key."""

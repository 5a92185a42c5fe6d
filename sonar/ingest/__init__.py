"""Posted bytes become records with a place to go: the upload endpoints of infiltrate."""

"""A look at a store from outside: what is missing in it and why, and whether what is there is whole."""

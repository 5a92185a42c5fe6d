"""The demonstration: the whole way on loopback, with this machine's samples and a generated cluster's history."""

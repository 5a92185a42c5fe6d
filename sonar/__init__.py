"""Sonar: watches computing clusters."""

__version__ = "0.1.0"

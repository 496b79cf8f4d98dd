"""Faults injected by the thousand: `python -m tests.faults` runs all, the tests a slice of each."""

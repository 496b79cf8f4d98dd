"""Commands around the library: `python -m zoo <verb>`, run from a clone."""

"""Commands around the library: `python -m zoo <verb>` in a clone, else `decision-policies`."""

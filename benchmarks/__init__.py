"""Side-by-side measurements; each module is run as `python -m benchmarks.<name>`."""

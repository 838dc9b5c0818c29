"""Benchmarks: ratios between ways to do the same thing, measured in turns within one run.

`python -m benches` prints them, `python -m benches.leaks` looks for what is left behind. Neither is a test of speed:
the numbers belong to the machine, and only the ratios are comparable.
"""

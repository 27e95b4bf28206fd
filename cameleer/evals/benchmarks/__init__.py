"""The benchmarks, one small file each, whose docstring is its card; found by presence."""

"""The instruction data sets, one small file each, whose docstring is its card; found as files."""

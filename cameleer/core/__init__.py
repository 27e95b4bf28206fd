"""Errors, files, configuration, stage folders, plug-ins, fetching, console. May import: nothing."""

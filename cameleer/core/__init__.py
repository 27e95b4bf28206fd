"""Ground floor: errors, files, configuration, stage folders, plug-ins, fetching, console. Imports nothing of ours."""

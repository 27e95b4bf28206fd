"""Running a study's tasks, here or on a cluster, held to its budget."""

"""Records of evaluation, where they are kept, and their statistics. May import: core."""

"""Instruction data: sources, mixtures, packing, statistics. May import: core, chat."""

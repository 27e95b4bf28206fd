"""Benchmarks and the runner that takes a model through them. May import: core, chat, results, engines."""

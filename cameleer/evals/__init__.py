"""Benchmarks, and the runner that asks them. May import: core, chat, results, engines."""

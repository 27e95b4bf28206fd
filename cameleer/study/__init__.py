"""The declared grid of bases, mixtures, seeds and benchmarks. May import all the other packages."""

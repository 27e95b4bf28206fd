"""Judging: a judge model says which of two answers is better, and how far it can be trusted."""

"""Portraits: what stands out in files of conversations, in words, numbers and pictures."""

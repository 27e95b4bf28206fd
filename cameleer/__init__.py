"""Cameleer: which instruction data should I use for my base model, and did it really help?"""

__version__ = "0.1.0"

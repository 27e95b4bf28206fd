"""Mixtures: parts by count, fraction or weight, filtered, as one fingerprinted folder."""

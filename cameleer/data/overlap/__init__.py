"""Overlap: what repeats within and across data sets, and which test items stand in them."""

"""What leaves the house: merged weights, weight diffs, cards, bundles that can be checked."""

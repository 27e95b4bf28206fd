"""Chat templates, one small file each; found by their presence."""

"""Loading, adapting and writing models; attention for packed rows. May import: core."""

"""What the paper and its model cards print, as data: verified cells only, each with its source."""

"""`python -m cameleer.cli`."""

from cameleer.cli import main

main()

"""`python -m nomad`."""

from nomad.cli import main

main()

"""`python -m edgeproxy`: the command line."""

from edgeproxy.cli import main

main()

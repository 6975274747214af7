"""`python -m edgeproxy`: the command line."""

from edgeproxy.command import main

main()

"""The words of the OCI specifications: pure, synchronous, no I/O. Imports nothing else of edgeproxy."""

"""A container registry without passwords and without an egress bill."""

__version__ = "0.1.0"

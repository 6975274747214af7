"""What each operation does, on the protocols of `storage` only. No HTTP, no concrete store."""

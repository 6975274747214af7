"""Who may do what: issuers and their keys, tokens, the policy. Imports `oci` only."""

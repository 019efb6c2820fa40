"""A black-box suite of the protocols that clients of other servers speak: each check is one clause of a contract, asked of any server."""

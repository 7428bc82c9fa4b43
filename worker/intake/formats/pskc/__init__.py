"""The format "PSKC" (RFC 6030): an XML container of keys, plain or encrypted with a pre-shared key or a password.

May import python-pskc, which knows the elements, the drafts before the RFC, and the ciphers.
Begin with `format`; `encryption` reads the head and unlocks it, `packages` finds the keys and checks their MACs, which
`macs` computes, `keys` makes tokens of them; `letter_case` restores names
with letters of the wrong case.
"""

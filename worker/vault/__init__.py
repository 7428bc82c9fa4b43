"""Secrets: OTPs (masked in every text), the keys that encrypt them, and the rotation of these keys. Begin with `keys`
(which keys this installation has) or `otps`."""

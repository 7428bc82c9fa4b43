"""What is secret: OTPs that no text shows, the keys that encrypt them, and the rotation of these keys.

May import config and database.
Begin with `keys` (which keys this installation has) or `otps`.
"""

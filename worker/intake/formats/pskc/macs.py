"""The MACs of the values of a PSKC document.

https://www.rfc-editor.org/rfc/rfc6030#section-6.2
"""

from __future__ import annotations

import hmac

from pskc.mac import MAC


class OneCallMac(MAC):
    """The MACs of python-pskc, each computed by one call of OpenSSL. python-pskc takes seven times as long for one, and
    computes two for every value: of its ciphertext and, for drafts, of its plaintext."""

    # Of the hash, once python-pskc was found to have it; empty before that.
    hash_name = ""

    def generate_mac(self, value: bytes) -> bytes:
        """Compute the MAC of a value. Raises what python-pskc raises until `hash_name` is set."""
        if not self.hash_name or not self.key:
            return super().generate_mac(value)
        return hmac.digest(self.key, value, self.hash_name)

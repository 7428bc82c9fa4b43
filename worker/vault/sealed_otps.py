"""Opens what is encrypted into a record: its pair of OTPs, or its seed."""

from __future__ import annotations

from models.encrypted import Keyring, identify_row
from worker.vault.otp_source import OtpSource, read_otp_source


def open_otps(keyring: Keyring, sealed: bytes, batch_id: int, row_number: int) -> OtpSource:
    """Decrypt the pair or the seed of the record of this row. Raises DecryptionError."""
    return read_otp_source(keyring.open(sealed, identify_row(batch_id, row_number)))

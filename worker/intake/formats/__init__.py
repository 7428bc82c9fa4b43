"""The file formats that a shipment may come in, one package or module each.

May import vault (OTPs) and intake's own lines and rows.
Begin with `otp_pairs`.
"""

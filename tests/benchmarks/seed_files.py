"""A PSKC file of many keys, plain and encrypted with a pre-shared key: seconds and peak of memory to open it and read
every row, beside python-pskc's own parser of the whole document; each in a process of its own.

    python tests/benchmarks/seed_files.py [--keys N] [--rounds N]
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import hmac
import random
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from cryptography.hazmat.primitives import padding
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

KEY = bytes.fromhex("00112233445566778899aabbccddeeff")
MAC_KEY = bytes(range(20))
CHECKOUT = Path(__file__).parents[2]

# Reads the file of its first argument, and prints its seconds, those of the processor, its peak of memory in KiB, and
# how many keys it read.
# Not getrusage: that includes what the process was before it became Python, a fork of this one.
READ = """
import sys, time
sys.path.insert(0, {checkout!r})
path, key = sys.argv[1], bytes.fromhex(sys.argv[2])
{read}
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(time.perf_counter() - started, time.process_time(), peak.split()[1], count)
"""
OURS = """
from pathlib import Path
from worker.intake import Hints, open_shipment, Row
started = time.perf_counter()
count = sum(isinstance(row, Row) for row in open_shipment(Path(path), hints=Hints(key=key)).tokens())
"""
THEIRS = """
from pskc import PSKC
started = time.perf_counter()
document = PSKC(path)
document.encryption.key = key
count = sum(each.check() and each.secret is not None for each in document.keys)
"""

PACKAGE = """ <pskc:KeyPackage>
  <pskc:DeviceInfo><pskc:Manufacturer>oath.MADE</pskc:Manufacturer><pskc:SerialNo>{serial}</pskc:SerialNo></pskc:DeviceInfo>
  <pskc:Key Id="{serial}" Algorithm="urn:ietf:params:xml:ns:keyprov:pskc:hotp">
   <pskc:AlgorithmParameters><pskc:ResponseFormat Length="6" Encoding="DECIMAL"/></pskc:AlgorithmParameters>
   <pskc:Data>
    <pskc:Secret>{secret}</pskc:Secret>
    <pskc:Counter><pskc:PlainValue>0</pskc:PlainValue></pskc:Counter>
   </pskc:Data>
   <pskc:Policy><pskc:StartDate>2026-01-01T00:00:00Z</pskc:StartDate><pskc:ExpiryDate>2099-01-01T00:00:00Z</pskc:ExpiryDate></pskc:Policy>
  </pskc:Key>
 </pskc:KeyPackage>
"""
BEGIN = """<?xml version="1.0" encoding="UTF-8"?>
<pskc:KeyContainer Version="1.0" xmlns:pskc="urn:ietf:params:xml:ns:keyprov:pskc"
 xmlns:ds="http://www.w3.org/2000/09/xmldsig#" xmlns:xenc="http://www.w3.org/2001/04/xmlenc#">
"""
METHOD = '<xenc:EncryptionMethod Algorithm="http://www.w3.org/2001/04/xmlenc#aes128-cbc"/>'


def encrypt(plaintext: bytes, vector: bytes) -> bytes:
    padder = padding.PKCS7(128).padder()
    encryptor = Cipher(algorithms.AES(KEY), modes.CBC(vector)).encryptor()
    return vector + encryptor.update(padder.update(plaintext) + padder.finalize()) + encryptor.finalize()


def write_value(cipher_value: bytes) -> str:
    text = base64.b64encode(cipher_value).decode()
    return f"{METHOD}<xenc:CipherData><xenc:CipherValue>{text}</xenc:CipherValue></xenc:CipherData>"


def write_file(path: Path, keys: int, *, is_encrypted: bool) -> None:
    made_up = random.Random(0)
    with path.open("w") as file:
        file.write(BEGIN)
        if is_encrypted:
            mac_key = write_value(encrypt(MAC_KEY, made_up.randbytes(16)))
            file.write("<pskc:EncryptionKey><ds:KeyName>made-up</ds:KeyName></pskc:EncryptionKey>\n")
            algorithm = "http://www.w3.org/2000/09/xmldsig#hmac-sha1"
            file.write(
                f'<pskc:MACMethod Algorithm="{algorithm}"><pskc:MACKey>{mac_key}</pskc:MACKey></pskc:MACMethod>\n'
            )
        for number in range(keys):
            seed = made_up.randbytes(20)
            secret = f"<pskc:PlainValue>{base64.b64encode(seed).decode()}</pskc:PlainValue>"
            if is_encrypted:
                cipher_value = encrypt(seed, made_up.randbytes(16))
                mac = base64.b64encode(hmac.digest(MAC_KEY, cipher_value, hashlib.sha1)).decode()
                value = write_value(cipher_value)
                secret = f"<pskc:EncryptedValue>{value}</pskc:EncryptedValue><pskc:ValueMAC>{mac}</pskc:ValueMAC>"
            file.write(PACKAGE.format(serial=f"MADE{number:07}", secret=secret))
        file.write("</pskc:KeyContainer>\n")


def measure(read: str, path: Path, keys: int) -> tuple[float, float, float]:
    """Seconds, seconds of the processor with Python's start, and MiB at the peak."""
    program = READ.format(checkout=str(CHECKOUT), read=read)
    argv = [sys.executable, "-c", program, str(path), KEY.hex()]
    done = subprocess.run(argv, check=True, capture_output=True, text=True)
    seconds, processor, peak, count = done.stdout.split()
    assert int(count) == keys, count
    return float(seconds), float(processor), int(peak) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--keys", type=int, default=50_000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    print(f"{arguments.keys} keys; medians of {arguments.rounds}; ours opens the file and then reads it, so twice\n")
    print(
        "| file | MiB | oathbulk, seconds | processor | peak MiB | python-pskc alone, seconds | processor | peak MiB |"
    )
    print("|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory(prefix="oathbulk-bench-") as directory:
        for kind in ("plain", "pre-shared key"):
            path = Path(directory) / "keys.xml"
            write_file(path, arguments.keys, is_encrypted=kind != "plain")
            cells = []
            for read in (OURS, THEIRS):
                measured = [measure(read, path, arguments.keys) for _ in range(arguments.rounds)]
                seconds, processor, peaks = (statistics.median(each) for each in zip(*measured, strict=True))
                cells += [f"{seconds:.1f}", f"{processor:.1f}", f"{peaks:.0f}"]
            print(f"| {kind} | {path.stat().st_size / 2**20:.0f} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()

"""TLS in front of a Valkey, as a server of its own, and certificates: self-signed, so that each is its own
authority."""

import datetime
import ipaddress
import sys
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from support.servers import tls_proxy
from support.servers.server import Server
from support.servers.valkey import ValkeyServer


def make_certificate(directory: Path, host: str, *, days: int = 1) -> tuple[Path, Path]:
    """Certificate and key, good for so many days, for this host and 127.0.0.1: the PEM files' paths."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    names = [x509.DNSName(host), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    directory.mkdir(exist_ok=True)
    certificate_file, key_file = directory / "certificate.pem", directory / "key.pem"
    certificate_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return certificate_file, key_file


class TlsServer(Server):
    """Shows this certificate, and passes everything on to the port behind it."""

    stop_signal = ValkeyServer.stop_signal

    def __init__(self, certificate: Path, key: Path, backend_port: int) -> None:
        super().__init__()
        self._arguments = [str(certificate), str(key), f"127.0.0.1:{backend_port}"]

    def argv(self) -> list[str]:
        return [sys.executable, "-I", str(tls_proxy.__file__), str(self.port), *self._arguments]

    def answers(self) -> bool:
        return "listens" in self.log.read_text()

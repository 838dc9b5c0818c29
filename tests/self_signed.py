"""A certificate for TLS tests, made by the openssl program of the machine."""

import shutil
import subprocess
from pathlib import Path

from installed import not_installed


def self_signed(folder: Path) -> Path:
    """Makes a certificate for localhost, signed by itself; gives a file that has it and its key."""
    if shutil.which("openssl") is None:
        not_installed("The openssl program", "openssl")
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    command = (
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost "
        f"-addext subjectAltName=DNS:localhost,IP:127.0.0.1 -keyout {key.name} -out {certificate.name}"
    )
    subprocess.run(command.split(), cwd=folder, check=True, capture_output=True)
    certificate.write_text(certificate.read_text() + key.read_text())
    return certificate

"""Certificates and keys of a deployment, as the `cryptography` package makes them."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_SKEW = timedelta(minutes=5)  # clocks of other machines may be behind


@dataclass(frozen=True)
class Pair:
    """A certificate and its private key, both as PEM."""

    certificate: bytes
    key: bytes


@dataclass(frozen=True)
class NodeKeys:
    """What a SuperNode proves with that it is itself: both in OpenSSH's format."""

    private: bytes
    public: bytes


def make_authority(name: str, now: datetime, days: int) -> Pair:
    """A certificate authority that signs certificates of servers only.

    Example:
        >>> from datetime import UTC, datetime
        >>> pair = make_authority("lab", datetime(2026, 1, 1, tzinfo=UTC), 10)
        >>> expiry(pair.certificate).date().isoformat()
        '2026-01-11'
    """
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _name(name)
    usage = _usage(digital_signature=False, key_cert_sign=True)
    certificate = (
        _builder(subject, subject, key.public_key(), now, days)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return Pair(certificate.public_bytes(Encoding.PEM), _pem(key))


def make_server(authority: Pair, hosts: tuple[str, ...], now: datetime, days: int) -> Pair:
    """A server's certificate for some hosts (names or IP addresses), and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    return Pair(_sign_server(authority, hosts, key.public_key(), now, days), _pem(key))


def renew_server(authority: Pair, certificate: bytes, now: datetime, days: int) -> bytes:
    """The same certificate with another validity; its key stays."""
    old = x509.load_pem_x509_certificate(certificate)
    key = old.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    return _sign_server(authority, hosts_of(certificate), key, now, days)


def make_node_keys() -> NodeKeys:
    """A key pair on the curve that Flower takes."""
    key = ec.generate_private_key(ec.SECP384R1())
    return NodeKeys(
        key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()),
        key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH) + b"\n",
    )


def expiry(certificate: bytes) -> datetime:
    """Until when a certificate is valid.

    Raises:
        ValueError: If it is none.
    """
    return x509.load_pem_x509_certificate(certificate).not_valid_after_utc


def hosts_of(certificate: bytes) -> tuple[str, ...]:
    """The hosts that a certificate is for."""
    names = x509.load_pem_x509_certificate(certificate).extensions.get_extension_for_class(
        x509.SubjectAlternativeName
    )
    return tuple(str(name.value) for name in names.value)


def is_signed_by(certificate: bytes, authority: bytes) -> bool:
    """Whether an authority's key signed a certificate."""
    signer = x509.load_pem_x509_certificate(authority)
    try:
        x509.load_pem_x509_certificate(certificate).verify_directly_issued_by(signer)
    except (InvalidSignature, ValueError, TypeError):  # none is a signature of its
        return False
    return True


def belongs_to(key: bytes, certificate: bytes) -> bool:
    """Whether a private key is a certificate's.

    Raises:
        ValueError: If it is none, or encrypted.
    """
    try:
        public = load_pem_private_key(key, None).public_key()
    except TypeError as error:  # it needs a password
        raise ValueError(str(error)) from error
    held = x509.load_pem_x509_certificate(certificate).public_key()
    form = Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    return public.public_bytes(*form) == held.public_bytes(*form)


def _sign_server(
    authority: Pair,
    hosts: tuple[str, ...],
    key: ec.EllipticCurvePublicKey,
    now: datetime,
    days: int,
) -> bytes:
    signer = load_pem_private_key(authority.key, None)
    assert isinstance(signer, ec.EllipticCurvePrivateKey)
    issuer = x509.load_pem_x509_certificate(authority.certificate)
    names = x509.SubjectAlternativeName([_alternative(host) for host in hosts])
    usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
    signer_id = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key())
    certificate = (
        _builder(_name(hosts[0]), issuer.subject, key, now, days)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(digital_signature=True, key_cert_sign=False), critical=True)
        .add_extension(usage, critical=False)
        .add_extension(names, critical=False)
        .add_extension(signer_id, critical=False)
        .sign(signer, hashes.SHA256())
    )
    return certificate.public_bytes(Encoding.PEM)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    now: datetime,
    days: int,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SKEW)
        .not_valid_after(now + timedelta(days=days))
    )


def _usage(*, digital_signature: bool, key_cert_sign: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        key_cert_sign=key_cert_sign,
        crl_sign=key_cert_sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text[:64])])  # X.509's limit


def _alternative(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

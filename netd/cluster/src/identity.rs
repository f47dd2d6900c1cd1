//! Who a node is: a certificate that the cluster's CA signed, whose common name is the node's id.
//! ECDSA on P-256 throughout. A manager's certificate bears one name more, which no worker's does:
//! whoever speaks to a manager or a member of etcd demands that name.

use std::{
    fmt,
    net::IpAddr,
    time::{Duration, SystemTime},
};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, PublicKeyData, SanType, SerialNumber,
};
use ring::digest::{SHA256, digest};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::{ClusterId, Error, NodeId, Result, Role, token::sha256};

mod files;
mod tls;

pub use files::{Directory, replace};
pub use tls::{
    Shown, client_config, peer_node, pinned_client_config, server_config, timeless_client_config,
    timeless_pinned_client_config,
};

/// The name in managers' certificates and in no others.
pub const MANAGER_NAME: &str = "manager.netd";

/// How long a node's certificate is good for, unless told.
const LIFE: Duration = Duration::from_secs(90 * 86_400);

/// How long the CA's is.
const CA_LIFE: Duration = Duration::from_secs(20 * 365 * 86_400);

/// How far clocks may be apart: by a time zone, or by a switch of the hour.
const SKEW: Duration = Duration::from_secs(86_400);

fn failed(what: &'static str) -> impl Fn(rcgen::Error) -> Error {
    move |error| Error::Certificate { what, why: error.to_string() }
}

fn der(what: &'static str, pem: &str) -> Result<CertificateDer<'static>> {
    CertificateDer::from_pem_slice(pem.as_bytes())
        .map_err(|error| Error::Certificate { what, why: error.to_string() })
}

/// SHA-256 of a CA's certificate (DER), which tokens carry.
///
/// # Errors
/// When it is no certificate.
pub fn digest_of(ca: &str) -> Result<[u8; 32]> {
    let der = der("the CA's certificate", ca)?;
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest(&SHA256, &der).as_ref());
    Ok(bytes)
}

/// The cluster's CA, with its key. Managers have it.
pub struct Authority {
    certificate: String,
    key: String,
    issuer: Issuer<'static, KeyPair>,
    life: Duration,
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").finish_non_exhaustive()
    }
}

impl Authority {
    /// A new one, for 20 years from `now`.
    ///
    /// # Errors
    /// When the kernel gives no random bytes.
    pub fn new(cluster: &ClusterId, now: SystemTime) -> Result<Self> {
        let failed = failed("the new CA");
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(&failed)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, format!("netd cluster {cluster}"));
        params.not_before = (now - SKEW).into();
        params.not_after = (now + CA_LIFE).into();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key).map_err(&failed)?.pem();
        Self::from_pem(certificate, key.serialize_pem())
    }

    /// One that was kept.
    ///
    /// # Errors
    /// When it is none.
    pub fn from_pem(certificate: String, key: String) -> Result<Self> {
        let failed = failed("the CA");
        let pair = KeyPair::from_pem(&key).map_err(&failed)?;
        let issuer = Issuer::from_ca_cert_pem(&certificate, pair).map_err(&failed)?;
        Ok(Self { certificate, key, issuer, life: LIFE })
    }

    /// It signs for so long; for 90 days when none is given.
    #[must_use]
    pub fn signing_for(self, life: Option<Duration>) -> Self {
        Self { life: life.unwrap_or(LIFE), ..self }
    }

    /// Its certificate, as PEM.
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// Its key, as PEM: whoever has it can make nodes.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// SHA-256 of its certificate (DER), which tokens carry.
    ///
    /// # Errors
    /// When its certificate is none.
    pub fn digest(&self) -> Result<[u8; 32]> {
        digest_of(&self.certificate)
    }

    /// Signs a node's key. Who it is is `subject`'s to say: of the request only the
    /// key is taken.
    ///
    /// # Errors
    /// When the request is none, or is not signed with the key it names.
    pub fn sign(&self, request: &Request, subject: &Subject, now: SystemTime) -> Result<String> {
        let failed = failed("the request for a certificate");
        let mut serial = [0; 16];
        getrandom::fill(&mut serial)?;
        // Positive, whatever the first bit is (RFC 5280, 4.1.2.2).
        serial[0] &= 0x7f;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, subject.node.as_str());
        params.serial_number = Some(SerialNumber::from_slice(&serial));
        params.not_before = (now - SKEW).into();
        params.not_after = (now + self.life).into();
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        let name = |name: &str| name.try_into().map(SanType::DnsName);
        params.subject_alt_names.push(name(subject.node.as_str()).map_err(&failed)?);
        if subject.role == Role::Manager {
            params.subject_alt_names.push(name(MANAGER_NAME).map_err(&failed)?);
        }
        let addresses = subject.addresses.iter().copied().map(SanType::IpAddress);
        params.subject_alt_names.extend(addresses);
        let signed = CertificateSigningRequestParams { params, public_key: request.take_key()? };
        Ok(signed.signed_by(&self.issuer).map_err(&failed)?.pem())
    }
}

/// Who a certificate is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// The node.
    pub node: NodeId,
    /// What it may do.
    pub role: Role,
    /// Where it is reached.
    pub addresses: Vec<IpAddr>,
}

/// A request for a certificate (PKCS #10), which proves that the sender has the key.
#[derive(Clone, Debug)]
pub struct Request {
    pem: String,
    /// SHA-256 of the public key, as hexadecimal digits.
    pub public_key: String,
}

impl Request {
    /// Reads one.
    ///
    /// # Errors
    /// When it is none, or its signature is wrong.
    pub fn from_pem(pem: &str) -> Result<Self> {
        let parsed = parse_request(pem)?;
        Ok(Self { pem: pem.to_owned(), public_key: sha256(parsed.public_key.der_bytes()) })
    }

    fn take_key(&self) -> Result<rcgen::PublicKey> {
        Ok(parse_request(&self.pem)?.public_key)
    }
}

fn parse_request(pem: &str) -> Result<CertificateSigningRequestParams> {
    let parsed = CertificateSigningRequestParams::from_pem(pem);
    parsed.map_err(failed("the request for a certificate"))
}

/// A new key and the request to have it signed, both as PEM.
///
/// # Errors
/// When the kernel gives no random bytes.
pub fn new_request(node: &NodeId) -> Result<(String, String)> {
    let failed = failed("a new key");
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(&failed)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, node.as_str());
    let request = params.serialize_request(&key).and_then(|request| request.pem());
    Ok((key.serialize_pem(), request.map_err(&failed)?))
}

/// What a node has to prove who it is. All as PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct Identity {
    /// The CA's certificate.
    pub ca: String,
    /// The node's certificate.
    pub certificate: String,
    /// The key to it.
    pub key: String,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").finish_non_exhaustive()
    }
}

impl Identity {
    /// What its certificate says.
    ///
    /// # Errors
    /// When it is none of a node.
    pub fn facts(&self) -> Result<Facts> {
        Facts::of(&der("the node's certificate", &self.certificate)?)
    }

    /// How etcd is to be spoken to.
    pub fn tls(&self) -> store::Tls {
        store::Tls {
            ca: self.ca.clone(),
            certificate: self.certificate.clone(),
            key: self.key.clone(),
            name: Some(MANAGER_NAME.to_owned()),
        }
    }
}

/// What a node's certificate says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Whose it is.
    pub node: NodeId,
    /// Since when it is good, in seconds since 1970.
    pub from: u64,
    /// Until when it is good, in seconds since 1970.
    pub until: u64,
}

impl Facts {
    fn of(der: &CertificateDer<'_>) -> Result<Self> {
        let wrong = |why: String| Error::Certificate { what: "the node's certificate", why };
        let (_, parsed) =
            X509Certificate::from_der(der).map_err(|error| wrong(error.to_string()))?;
        let name = parsed.subject().iter_common_name().next().and_then(|name| name.as_str().ok());
        let node = name.unwrap_or_default().parse();
        let seconds = |time: i64| u64::try_from(time).unwrap_or(0);
        Ok(Self {
            node: node.map_err(|error: crate::InvalidId| wrong(error.to_string()))?,
            from: seconds(parsed.validity().not_before.timestamp()),
            until: seconds(parsed.validity().not_after.timestamp()),
        })
    }

    /// When to ask for the next one, in seconds since 1970: between half and four fifths of its
    /// life, spread by node so that they do not all ask at once.
    pub fn renew_at(&self) -> u64 {
        let seed = digest(&SHA256, self.node.as_str().as_bytes()).as_ref()[0];
        let percent = 50 + u64::from(seed) * 30 / 255;
        // It was backdated by as much as clocks may be apart.
        let signed = self.from + SKEW.as_secs();
        signed + self.until.saturating_sub(signed) * percent / 100
    }
}

#[cfg(test)]
mod tests;

//! TLS between nodes: both sides show a certificate of the cluster's CA. The one exception is a
//! host that is about to join: it has none, and knows the CA by its digest.

use std::{sync::Arc, time::Duration};

use ring::digest::{SHA256, digest};
use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, ring as provider},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
    server::WebPkiClientVerifier,
};

use super::{Facts, Identity, der};
use crate::{Error, NodeId, Result, Token};

fn failed(what: &'static str) -> impl Fn(&dyn std::fmt::Display) -> Error {
    move |error| Error::Certificate { what, why: error.to_string() }
}

fn ring() -> Arc<CryptoProvider> {
    Arc::new(provider::default_provider())
}

fn roots(ca: CertificateDer<'static>) -> Result<Arc<RootCertStore>> {
    let mut roots = RootCertStore::empty();
    roots.add(ca).map_err(|error| failed("the CA's certificate")(&error))?;
    Ok(Arc::new(roots))
}

type Chain = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// What is shown: the certificate, and the CA's for those who know its digest only.
fn chain(identity: &Identity) -> Result<Chain> {
    let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes());
    let key = key.map_err(|error| failed("the node's key")(&error))?;
    let certificate = der("the node's certificate", &identity.certificate)?;
    Ok((vec![certificate, der("the CA's certificate", &identity.ca)?], key))
}

/// For a manager. A caller may come without a certificate, to join; one that is shown has to be of
/// the cluster.
///
/// # Errors
/// When the identity is none.
pub fn server_config(identity: &Identity) -> Result<ServerConfig> {
    let failed = failed("the node's certificate");
    let roots = roots(der("the CA's certificate", &identity.ca)?)?;
    let callers = WebPkiClientVerifier::builder_with_provider(roots, ring())
        .allow_unauthenticated()
        .build()
        .map_err(|error| failed(&error))?;
    let (certificates, key) = chain(identity)?;
    ServerConfig::builder_with_provider(ring())
        .with_safe_default_protocol_versions()
        .map_err(|error| failed(&error))?
        .with_client_cert_verifier(callers)
        .with_single_cert(certificates, key)
        .map_err(|error| failed(&error))
}

/// For a node that speaks to a manager.
///
/// # Errors
/// When the identity is none.
pub fn client_config(identity: &Identity) -> Result<ClientConfig> {
    let failed = failed("the node's certificate");
    let (certificates, key) = chain(identity)?;
    ClientConfig::builder_with_provider(ring())
        .with_safe_default_protocol_versions()
        .map_err(|error| failed(&error))?
        .with_root_certificates(roots(der("the CA's certificate", &identity.ca)?)?)
        .with_client_auth_cert(certificates, key)
        .map_err(|error| failed(&error))
}

/// For a host that is about to join the cluster that its token is of.
///
/// # Errors
/// When the library cannot do TLS.
pub fn pinned_client_config(token: &Token) -> Result<ClientConfig> {
    trusting(Arc::new(Pinned { token: token.clone(), provider: ring() }))
}

/// As [`pinned_client_config`], whatever time it is: for asking that.
///
/// # Errors
/// When the library cannot do TLS.
pub fn timeless_pinned_client_config(token: &Token) -> Result<ClientConfig> {
    let pinned = Pinned { token: token.clone(), provider: ring() };
    trusting(Arc::new(Timeless(Arc::new(pinned))))
}

/// For a node that asks a manager of this CA (PEM) what time it is, whatever time it is.
///
/// # Errors
/// When the CA is none.
pub fn timeless_client_config(ca: &str) -> Result<ClientConfig> {
    let roots = roots(der("the CA's certificate", ca)?)?;
    let known = WebPkiServerVerifier::builder_with_provider(roots, ring()).build();
    trusting(Arc::new(Timeless(known.map_err(|error| failed("the CA's certificate")(&error))?)))
}

fn trusting(verifier: Arc<dyn ServerCertVerifier>) -> Result<ClientConfig> {
    let builder = ClientConfig::builder_with_provider(ring())
        .with_safe_default_protocol_versions()
        .map_err(|error| failed("TLS")(&error))?;
    Ok(builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth())
}

/// Who is at the other end of a connection.
///
/// # Errors
/// When the certificate is none of a node.
pub fn peer_node(certificates: Option<&[CertificateDer<'_>]>) -> Result<Option<NodeId>> {
    match certificates.and_then(<[_]>::first) {
        Some(certificate) => Ok(Some(Facts::of(certificate)?.node)),
        None => Ok(None),
    }
}

/// What a server shows that is no manager of the cluster that a token is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Shown {
    /// Managers show the CA's certificate as well, for those who know its digest.
    #[error("it is a manager of another cluster")]
    AnotherCluster,
    /// A node's certificate, and no CA's.
    #[error("it is the etcd of a cluster")]
    Etcd,
    /// Anybody's.
    #[error("it is a TLS server, and its certificate is of no cluster's node")]
    Foreign,
}

impl Shown {
    fn of(certificate: &CertificateDer<'_>, others: &[CertificateDer<'_>]) -> Self {
        match (Facts::of(certificate), others) {
            (Err(_), _) => Self::Foreign,
            (Ok(_), []) => Self::Etcd,
            (Ok(_), _) => Self::AnotherCluster,
        }
    }
}

/// Trusts the CA that the token knows by digest, if the server shows it, and then only what it
/// signed.
#[derive(Debug)]
struct Pinned {
    token: Token,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let pinned =
            |shown: &&CertificateDer<'_>| self.token.is_of(digest(&SHA256, shown).as_ref());
        let ca = intermediates.iter().find(pinned).ok_or_else(|| {
            let shown = Shown::of(end_entity, intermediates);
            rustls::Error::InvalidCertificate(rustls::CertificateError::Other(rustls::OtherError(
                Arc::new(shown),
            )))
        })?;
        let mut roots = RootCertStore::empty();
        roots.add(ca.clone().into_owned())?;
        let provider = Arc::clone(&self.provider);
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .map_err(|error| rustls::Error::General(error.to_string()))?
            .verify_server_cert(end_entity, &[], server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Trusts whom another does, at a time at which the certificate that is shown is good.
#[derive(Debug)]
struct Timeless(Arc<dyn ServerCertVerifier>);

impl ServerCertVerifier for Timeless {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        // The CA's begins with the first one that it signs.
        let good = Facts::of(end_entity).map(|facts| Duration::from_secs(facts.from + 1));
        let now = good.map_or(now, UnixTime::since_unix_epoch);
        self.0.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

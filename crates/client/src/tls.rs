//! Whether the server at the other end is the one that is meant. Certificates are read only for an `https` address,
//! because reading the system's takes longer than a request to a local server.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::digest;
use chassis_api::Fingerprint;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use crate::{Endpoint, Error, ServerAddress, Trust};

/// How connections are protected, and by what the server is known.
#[derive(Debug, Clone)]
pub(crate) struct Tls {
    pub(crate) config: Arc<ClientConfig>,
    verifier: Arc<Verifier>,
}

#[derive(Debug)]
struct Verifier {
    provider: Arc<CryptoProvider>,
    known: Known,
    /// What the server has shown last.
    shown: Mutex<Option<Fingerprint>>,
}

#[derive(Debug)]
enum Known {
    Fingerprint(Fingerprint),
    Authorities(Arc<WebPkiServerVerifier>),
    /// This machine has no authorities: a small container, say.
    Nobody,
}

impl Tls {
    /// None if the address needs none.
    pub(crate) fn new(endpoint: &Endpoint) -> Result<Option<Tls>, Error> {
        if !matches!(endpoint.address, ServerAddress::Https { .. }) {
            return Ok(None);
        }
        let unusable = |source: io::Error| Error::Tls { address: endpoint.address.clone(), source };
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let authorities = |roots: RootCertStore| {
            if roots.is_empty() {
                return Ok(Known::Nobody);
            }
            let verifier =
                WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build();
            verifier.map(Known::Authorities).map_err(|error| unusable(io::Error::other(error)))
        };
        let known = match &endpoint.trust {
            Trust::Fingerprint(fingerprint) => Known::Fingerprint(*fingerprint),
            Trust::CaFile(path) => authorities(read(path)?)?,
            Trust::System => authorities(of_system())?,
        };
        let verifier = Arc::new(Verifier { provider: Arc::clone(&provider), known, shown: Mutex::new(None) });
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| unusable(io::Error::other(error)))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::clone(&verifier) as Arc<dyn ServerCertVerifier>)
            .with_no_client_auth();
        Ok(Some(Tls { config: Arc::new(config), verifier }))
    }

    /// Why there is no connection, for the person who wanted one.
    pub(crate) fn explain(&self, address: &ServerAddress, source: io::Error) -> Error {
        let address = address.clone();
        let cause = source.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>());
        match (cause, &self.verifier.known, self.shown()) {
            (Some(rustls::Error::InvalidCertificate(_)), Known::Fingerprint(expected), Some(found)) => {
                Error::OtherCertificate { address, expected: *expected, found }
            }
            (
                Some(rustls::Error::InvalidCertificate(
                    CertificateError::Expired | CertificateError::ExpiredContext { .. },
                )),
                _,
                _,
            ) => Error::Expired { address, source },
            (Some(rustls::Error::InvalidCertificate(_)), _, Some(found)) => {
                Error::Stranger { address, found, source }
            }
            (Some(rustls::Error::InvalidMessage(_)), _, _) => Error::NotTls { address, source },
            _ => Error::Tls { address, source },
        }
    }

    fn shown(&self) -> Option<Fingerprint> {
        *self.verifier.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Those that the system trusts; `SSL_CERT_FILE` names others.
fn of_system() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    // A broken certificate among many is no reason to trust none of them.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots
}

fn read(path: &Path) -> Result<RootCertStore, Error> {
    let unreadable = |source: io::Error| Error::CaFile { path: path.to_owned(), source };
    let invalid = |what: String| unreadable(io::Error::new(io::ErrorKind::InvalidData, what));
    let pem = std::fs::read(path).map_err(unreadable)?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|error| invalid(error.to_string()))?;
        roots.add(certificate).map_err(|error| invalid(error.to_string()))?;
    }
    if roots.is_empty() { Err(invalid("it holds no certificate in PEM".to_owned())) } else { Ok(roots) }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let mut sha256 = [0; 32];
        sha256.copy_from_slice(digest::digest(&digest::SHA256, end_entity).as_ref());
        let shown = Fingerprint::new(sha256);
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner) = Some(shown);
        match &self.known {
            Known::Fingerprint(expected) if *expected == shown => Ok(ServerCertVerified::assertion()),
            Known::Fingerprint(_) => Err(CertificateError::ApplicationVerificationFailure.into()),
            Known::Nobody => Err(CertificateError::UnknownIssuer.into()),
            Known::Authorities(verifier) => {
                verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
            }
        }
    }

    // That it holds the certificate's key is checked here, whoever vouches for the certificate.
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

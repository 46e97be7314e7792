//! Certificates from files, for both clients. rustls with ring: the only cryptography in the binary.

use std::path::Path;
use std::sync::Once;

use reqwest::{Certificate, Identity};
use tonic::transport::{Certificate as GrpcCertificate, ClientTlsConfig, Identity as GrpcIdentity};

use super::TransportError;
use crate::export::settings::TlsFiles;

/// Makes ring the process's provider of cryptography. Each client asks for it; the first one installs it.
pub fn install_provider() {
    static INSTALLED: Once = Once::new();
    // An error says that there is one already, which is as good.
    INSTALLED.call_once(|| drop(rustls::crypto::ring::default_provider().install_default()));
}

/// The files' contents.
pub(super) struct Material {
    authority: Option<Vec<u8>>,
    /// Certificate and key.
    identity: Option<(Vec<u8>, Vec<u8>)>,
}

const AUTHORITY: &str = "the certificate authority";
const CERTIFICATE: &str = "the client certificate";
const KEY: &str = "the client key";

impl Material {
    pub(super) fn read(files: &TlsFiles) -> Result<Material, TransportError> {
        let authority = files.certificate_authority.as_deref().map(|path| read(AUTHORITY, path)).transpose()?;
        if let (Some(pem), Some(path)) = (&authority, &files.certificate_authority) {
            let certificates = Certificate::from_pem_bundle(pem).map_err(|error| unusable(AUTHORITY, path, &error))?;
            if certificates.is_empty() {
                let why = "there is no PEM certificate in it".to_owned();
                return Err(TransportError::Unusable { what: AUTHORITY, path: path.clone(), why });
            }
        }
        let identity = match (&files.client_certificate, &files.client_key) {
            (None, None) => None,
            (Some(certificate), Some(key)) => {
                let both = (read(CERTIFICATE, certificate)?, read(KEY, key)?);
                Identity::from_pem(&joined(&both)).map_err(|error| unusable(CERTIFICATE, certificate, &error))?;
                Some(both)
            }
            _ => return Err(TransportError::HalfIdentity),
        };
        Ok(Material { authority, identity })
    }

    /// Puts them into an HTTP client. Without TLS nothing is loaded: an image without certificate authorities is no obstacle then.
    pub(super) fn apply(
        &self,
        secure: bool,
        mut builder: reqwest::ClientBuilder,
    ) -> Result<reqwest::ClientBuilder, reqwest::Error> {
        install_provider();
        if !secure {
            return Ok(builder.tls_certs_only([]));
        }
        if let Some(authority) = &self.authority {
            builder = builder.tls_certs_only(Certificate::from_pem_bundle(authority)?);
        }
        if let Some(identity) = &self.identity {
            builder = builder.identity(Identity::from_pem(&joined(identity))?);
        }
        Ok(builder)
    }

    /// The same for gRPC.
    pub(super) fn grpc(&self) -> ClientTlsConfig {
        install_provider();
        let mut config = match &self.authority {
            Some(authority) => ClientTlsConfig::new().ca_certificate(GrpcCertificate::from_pem(authority)),
            None => ClientTlsConfig::new().with_native_roots(),
        };
        if let Some((certificate, key)) = &self.identity {
            config = config.identity(GrpcIdentity::from_pem(certificate, key));
        }
        config
    }
}

fn joined((certificate, key): &(Vec<u8>, Vec<u8>)) -> Vec<u8> {
    [certificate.as_slice(), b"\n", key].concat()
}

fn read(what: &'static str, path: &Path) -> Result<Vec<u8>, TransportError> {
    std::fs::read(path).map_err(|source| TransportError::File { what, path: path.to_owned(), source })
}

fn unusable(what: &'static str, path: &Path, error: &reqwest::Error) -> TransportError {
    TransportError::Unusable { what, path: path.to_owned(), why: super::chain(error) }
}

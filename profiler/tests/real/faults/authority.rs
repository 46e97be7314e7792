//! Certificates that are good, expired, or of somebody else.

use std::path::PathBuf;
use std::sync::Arc;

use profiler::export::transport;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;

use crate::proxy::Mode;

/// Who signs certificates, and a file that makes a client believe them.
pub(super) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: tempfile::TempDir,
}

impl Authority {
    pub(super) fn new() -> Authority {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), issuer.pem()).unwrap();
        Authority { issuer, folder }
    }

    pub(super) fn file(&self) -> Option<PathBuf> {
        Some(self.folder.path().join("ca.pem"))
    }

    /// A server with a certificate for this name; `expired` long ago.
    pub(super) fn server(&self, name: &str, expired: bool, wire: &str) -> Mode {
        transport::tls::install_provider();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        if expired {
            (params.not_before, params.not_after) =
                (rcgen::date_time_ymd(2020, 1, 1), rcgen::date_time_ymd(2021, 1, 1));
        }
        let certificate = params.signed_by(&key, &self.issuer).unwrap().der().clone();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let mut config =
            ServerConfig::builder().with_no_client_auth().with_single_cert(vec![certificate], key).unwrap();
        if wire.ends_with("grpc") {
            // A client of gRPC goes away from a server that does not choose HTTP/2.
            config.alpn_protocols = vec![b"h2".to_vec()];
        }
        Mode::Tls(Arc::new(config))
    }
}

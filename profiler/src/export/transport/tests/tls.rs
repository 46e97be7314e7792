//! TLS: whom the clients believe, and who they say they are.

use std::fs;
use std::io::Write;
use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};

use super::faults::{answer, read_request, server};
use super::{Answered, assert_retry, delivered, message, send, settings};
use crate::export::settings::TlsFiles;
use crate::export::transport::{TransportError, open, tls};

/// A certificate authority, and files of it and of what it signed.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: tempfile::TempDir,
}

impl Authority {
    fn new() -> Authority {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("ca.pem"), issuer.pem()).unwrap();
        Authority { issuer, folder }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Certificate and key for a name, also as files `NAME.pem` and `NAME.key`.
    fn sign(&self, name: &str) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
        self.sign_as(name, CertificateParams::new(vec![name.to_owned()]).unwrap())
    }

    fn sign_as(&self, name: &str, params: CertificateParams) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        fs::write(self.file(&format!("{name}.pem")), certificate.pem()).unwrap();
        fs::write(self.file(&format!("{name}.key")), key.serialize_pem()).unwrap();
        (certificate.der().clone(), PrivateKeyDer::try_from(key.serialize_der()).unwrap())
    }

    /// An HTTPS server that answers 200; with `clients` only to those whose certificate this authority signed.
    fn server(&self, name: &str, clients: bool) -> u16 {
        self.serve(self.sign(name), clients)
    }

    /// One whose certificate was good for a year, long ago.
    fn expired_server(&self, name: &str) -> u16 {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2021, 1, 1));
        self.serve(self.sign_as(name, params), false)
    }

    fn serve(&self, (certificate, key): (CertificateDer<'static>, PrivateKeyDer<'static>), clients: bool) -> u16 {
        tls::install_provider();
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).unwrap();
        let builder = ServerConfig::builder();
        let builder = if clients {
            builder.with_client_cert_verifier(WebPkiClientVerifier::builder(Arc::new(roots)).build().unwrap())
        } else {
            builder.with_no_client_auth()
        };
        let config = Arc::new(builder.with_single_cert(vec![certificate], key).unwrap());
        server(move |stream: TcpStream, _| {
            let mut stream = StreamOwned::new(ServerConnection::new(config.clone()).unwrap(), stream);
            if read_request(&mut stream).is_some() {
                let _ = stream.write_all(answer("200 OK", "", "").as_bytes());
                stream.conn.send_close_notify();
                let _ = stream.flush();
            }
        })
    }
}

#[test]
fn only_a_server_whose_authority_is_believed_and_whose_name_is_right_gets_profiles() {
    let (ours, other) = (Authority::new(), Authority::new());
    let good = ours.server("localhost", false);
    let wrong_name = ours.server("elsewhere.example", false);
    let expired = ours.expired_server("localhost");
    let against = |scheme: &str, port: u16, authority: PathBuf| {
        let mut settings = settings(&format!("{scheme}://localhost:{port}"));
        settings.tls.certificate_authority = Some(authority);
        send(&settings, &message("body"))
    };
    assert_eq!(against("otlp+https", good, ours.file("ca.pem")), delivered());
    let table = [(good, other.file("ca.pem")), (wrong_name, ours.file("ca.pem")), (expired, ours.file("ca.pem"))];
    for scheme in ["otlp+https", "otlp+grpcs"] {
        for (port, authority) in table.clone() {
            assert_retry(&against(scheme, port, authority), Answered::Unreachable, None, "certificate");
        }
    }
}

#[test]
fn a_client_certificate_is_shown_to_a_server_that_wants_one() {
    let ours = Authority::new();
    let port = ours.server("localhost", true);
    ours.sign("agent");
    let mut settings = settings(&format!("otlp+https://localhost:{port}"));
    settings.tls.certificate_authority = Some(ours.file("ca.pem"));
    let answer = send(&settings, &message("body"));
    assert!(matches!(answer.outcome, crate::export::Outcome::Retry(..)), "{answer:?}");
    settings.tls.client_certificate = Some(ours.file("agent.pem"));
    settings.tls.client_key = Some(ours.file("agent.key"));
    assert_eq!(send(&settings, &message("body")), delivered());
}

#[test]
fn a_server_without_tls_behind_an_https_address_is_unreachable() {
    let port = server(|mut stream: TcpStream, _| drop(stream.write_all(answer("400 Bad Request", "", "").as_bytes())));
    let ours = Authority::new();
    let mut settings = settings(&format!("otlp+https://localhost:{port}"));
    settings.tls.certificate_authority = Some(ours.file("ca.pem"));
    assert_retry(&send(&settings, &message("body")), Answered::Unreachable, None, "no connection: ");
}

#[test]
fn files_that_can_not_be_used_are_named() {
    let ours = Authority::new();
    ours.sign("agent");
    fs::write(ours.file("empty.pem"), "nothing").unwrap();
    let path = |name: &str| Some(ours.file(name));
    let table = [
        (
            TlsFiles { certificate_authority: path("none.pem"), ..TlsFiles::default() },
            "can't read the certificate authority ",
        ),
        (TlsFiles { certificate_authority: path("empty.pem"), ..TlsFiles::default() }, "the certificate authority "),
        (
            TlsFiles { client_key: path("agent.key"), ..TlsFiles::default() },
            "a client certificate and its key go together",
        ),
        (
            TlsFiles {
                client_certificate: path("agent.pem"),
                client_key: path("agent.pem"),
                certificate_authority: path("ca.pem"),
            },
            "the client certificate ",
        ),
    ];
    for scheme in ["otlp+https", "otlp+grpcs"] {
        for (files, says) in &table {
            let mut settings = settings(&format!("{scheme}://localhost:1"));
            settings.tls = files.clone();
            let crate::export::address::Address::Server(server) = settings.address.clone() else { panic!() };
            let error = super::run(async { open(&settings, server.wire).map(drop).unwrap_err() });
            assert!(!matches!(error, TransportError::Client { .. }) && error.to_string().starts_with(says), "{error}");
        }
    }
}

//! The CRI client against a gRPC server on a Unix socket.

use std::convert::Infallible;
use std::path::PathBuf;

use hyper::service::service_fn;
use hyper_util::rt::TokioExecutor;
use pprof_proto::cri::{ContainerMetadata, ImageSpec, PodSandboxMetadata};

use super::*;

/// A runtime with these pods and containers; `None` answers that it does not know the method.
#[derive(Clone)]
pub(crate) struct Runtime(pub(crate) Option<(Vec<PodSandbox>, Vec<CriContainer>)>);

impl Runtime {
    /// Serves `socket` until the test's runtime ends.
    pub(crate) fn serve(self, socket: PathBuf) {
        let listener = tokio::net::UnixListener::bind(socket).unwrap();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let runtime = self.clone();
                tokio::spawn(async move {
                    let service = service_fn(move |request| {
                        let runtime = runtime.clone();
                        async move { Ok::<_, Infallible>(runtime.answer(request).await) }
                    });
                    let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                    let _ = server.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
    }

    async fn answer(&self, request: http::Request<hyper::body::Incoming>) -> http::Response<tonic::body::Body> {
        let Some((sandboxes, containers)) = self.0.clone() else {
            return tonic::Status::unimplemented("unknown service runtime.v1.RuntimeService").into_http();
        };
        let path = request.uri().path().to_owned();
        match path.as_str() {
            LIST_POD_SANDBOX => {
                let answer = ListPodSandboxResponse { items: sandboxes };
                let service = tower::service_fn(move |_: tonic::Request<ListPodSandboxRequest>| {
                    std::future::ready(Ok(tonic::Response::new(answer.clone())))
                });
                tonic::server::Grpc::new(ProstCodec::default()).unary(service, request).await
            }
            LIST_CONTAINERS => {
                let answer = ListContainersResponse { containers };
                let service = tower::service_fn(move |_: tonic::Request<ListContainersRequest>| {
                    std::future::ready(Ok(tonic::Response::new(answer.clone())))
                });
                tonic::server::Grpc::new(ProstCodec::default()).unary(service, request).await
            }
            other => tonic::Status::unimplemented(other).into_http(),
        }
    }
}

pub(crate) fn sandbox(id: &str, uid: &str, name: &str, labels: &[(&str, &str)]) -> PodSandbox {
    let metadata = PodSandboxMetadata { name: name.into(), uid: uid.into(), namespace: "shop".into(), attempt: 0 };
    let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    PodSandbox { id: id.into(), metadata: Some(metadata), labels, annotations: BTreeMap::new() }
}

pub(crate) fn container(id: &str, sandbox: &str, name: &str) -> CriContainer {
    CriContainer {
        id: id.into(),
        pod_sandbox_id: sandbox.into(),
        metadata: Some(ContainerMetadata { name: name.into(), attempt: 1 }),
        image: Some(ImageSpec { image: format!("reg/{name}:1") }),
        labels: BTreeMap::new(),
    }
}

const PATIENCE: Duration = Duration::from_secs(30);

#[tokio::test]
async fn a_runtime_tells_pods_with_their_containers() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("cri.sock");
    let labels = [("pod-template-hash", "7d4b9c"), ("tags.datadoghq.com/app.service", "shop-app"), ("team", "cart")];
    let sandboxes = vec![
        sandbox("s1", "u1", "web-7d4b9c-x2k4q", &labels),
        // The same pod, started anew after the node was.
        sandbox("s2", "u1", "web-7d4b9c-x2k4q", &labels),
        sandbox("s3", "34dc0b5e626f2c5c4c5170e34b10e765", "etcd-n", &[]),
        sandbox("s4", "", "nameless", &[]),
    ];
    let containers = vec![
        container("c1", "s1", "app"),
        container("c2", "s2", "app"),
        container("c3", "s3", "etcd"),
        container("c4", "gone", "lost"),
    ];
    Runtime(Some((sandboxes, containers))).serve(socket.clone());
    let found = list(&socket, PATIENCE, &["team".into()]).await.unwrap();
    let ids = |report: &PodReport| {
        report.containers.iter().map(|(id, container)| format!("{id}={}", container.name)).collect::<Vec<_>>()
    };
    assert_eq!(found.len(), 2);
    assert_eq!(ids(&found[0]), ["s1=", "s2=", "c1=app", "c2=app"]);
    let pod = &found[0].pod;
    assert_eq!(
        (&*pod.name, &*pod.namespace, &*pod.workload_kind, &*pod.workload),
        ("web-7d4b9c-x2k4q", "shop", "Deployment", "web")
    );
    assert_eq!(pod.labels, [("team".into(), "cart".into())]);
    let app = &found[0].containers[2].1;
    assert_eq!((&*app.tags.service, &*app.image), ("shop-app", "reg/app:1"));
    assert_eq!(ids(&found[1]), ["s3=", "c3=etcd"]);
}

#[tokio::test]
async fn a_runtime_that_is_away_mute_or_another_one_is_an_error_that_names_it() {
    let directory = tempfile::tempdir().unwrap();
    let away = directory.path().join("away.sock");
    let error = list(&away, PATIENCE, &[]).await.unwrap_err();
    assert!(matches!(&error, RuntimeError::Connect { .. }) && error.to_string().contains("away.sock"), "{error}");

    let other = directory.path().join("other.sock");
    Runtime(None).serve(other.clone());
    let error = list(&other, PATIENCE, &[]).await.unwrap_err();
    assert!(matches!(&error, RuntimeError::Answer { why, .. } if why.contains("unknown service")), "{error}");

    let mute = directory.path().join("mute.sock");
    let _listener = tokio::net::UnixListener::bind(&mute).unwrap();
    let error = list(&mute, Duration::from_millis(20), &[]).await.unwrap_err();
    assert!(matches!(error, RuntimeError::Timeout { .. }), "{error}");
}

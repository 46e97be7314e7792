//! One container from Docker's API (`GET /containers/ID/json`, API 1.24 and later; Podman answers the same) over its Unix socket.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::rt::TokioIo;
use serde::Deserialize;

use super::cri::RuntimeError;
use super::pod_object::{declared, text};
use super::pods::Container;

/// Largest answer, bytes; with many mounts and variables it is some ten KiB.
const MAX_ANSWER: usize = 4 << 20;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Inspected {
    name: Option<String>,
    config: Option<InspectedConfig>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct InspectedConfig {
    image: Option<String>,
    labels: Option<BTreeMap<String, String>>,
}

/// The container with this id; `None` if there is none. Asks only for ids of hex digits.
pub async fn inspect(socket: &Path, id: &str, timeout: Duration) -> Result<Option<Container>, RuntimeError> {
    if id.is_empty() || !id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(None);
    }
    let late = |_| RuntimeError::Timeout { socket: socket.display().to_string(), after: timeout };
    tokio::time::timeout(timeout, ask(socket, id)).await.map_err(late)?
}

async fn ask(socket: &Path, id: &str) -> Result<Option<Container>, RuntimeError> {
    let connect = |why: String| RuntimeError::Connect { socket: socket.display().to_string(), why };
    let failed =
        |why: String| RuntimeError::Answer { socket: socket.display().to_string(), request: "inspect".into(), why };
    let stream = tokio::net::UnixStream::connect(socket).await.map_err(|error| connect(error.to_string()))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| connect(error.to_string()))?;
    let request = http::Request::get(format!("/containers/{id}/json"))
        .header(http::header::HOST, "localhost")
        .body(Empty::<Bytes>::new())
        .map_err(|error| failed(error.to_string()))?;
    let exchange = async {
        let response = sender.send_request(request).await.map_err(|error| failed(error.to_string()))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
        Ok((status, body.map_err(|error| failed(error.to_string()))?.to_bytes()))
    };
    let (status, body) = {
        let mut connection = std::pin::pin!(connection);
        let mut exchange = std::pin::pin!(exchange);
        tokio::select! {
            done = &mut exchange => done?,
            // A peer that closed may have answered before.
            _ = &mut connection => exchange.await?,
        }
    };
    match status {
        http::StatusCode::OK => {}
        http::StatusCode::NOT_FOUND => return Ok(None),
        other => return Err(failed(format!("status {other}"))),
    }
    let found: Inspected = serde_json::from_slice(&body).map_err(|error| failed(error.to_string()))?;
    let config = found.config.unwrap_or(InspectedConfig { image: None, labels: None });
    let name = found.name.unwrap_or_default();
    Ok(Some(Container {
        name: text(name.strip_prefix('/').unwrap_or(&name)),
        image: text(&config.image.unwrap_or_default()),
        tags: declared(&config.labels.unwrap_or_default(), "com.datadoghq.tags.", ["service", "env", "version"]),
    }))
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);

    /// Answers one request with these bytes; gives back what was asked.
    async fn against(answer: &'static str, id: &str) -> (String, Result<Option<Container>, RuntimeError>) {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("docker.sock");
        let listener = tokio::net::UnixListener::bind(&socket).unwrap();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = vec![0; 4096];
            let length = stream.read(&mut request).await.unwrap();
            stream.write_all(answer.as_bytes()).await.unwrap();
            String::from_utf8_lossy(&request[..length]).into_owned()
        });
        let found = inspect(&socket, id, PATIENCE).await;
        (server.await.unwrap(), found)
    }

    #[tokio::test]
    async fn a_container_s_name_image_and_tags_are_told() {
        let answer = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n\
            {\"Id\":\"ab12\",\"Name\":\"/web\",\"Config\":{\"Image\":\"nginx:1\",\"Env\":[\"SECRET=x\"],\
            \"Labels\":{\"com.datadoghq.tags.service\":\"shop\",\"com.datadoghq.tags.env\":\"prod\"}}}";
        let (asked, found) = against(answer, "ab12").await;
        assert!(asked.starts_with("GET /containers/ab12/json HTTP/1.1\r\n"), "{asked}");
        let found = found.unwrap().unwrap();
        assert_eq!(
            (&*found.name, &*found.image, &*found.tags.service, &*found.tags.environment),
            ("web", "nginx:1", "shop", "prod")
        );
    }

    #[tokio::test]
    async fn no_such_container_is_no_error_and_nonsense_is_one() {
        let (_, found) = against("HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\n{}", "ab").await;
        assert!(matches!(found, Ok(None)));
        for answer in [
            "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n<p>",
            "SSH-2.0-x\r\n",
        ] {
            let (_, found) = against(answer, "ab").await;
            assert!(matches!(found, Err(RuntimeError::Answer { .. })), "{answer}: {found:?}");
        }
    }

    #[tokio::test]
    async fn what_is_no_id_is_not_asked_for() {
        for id in ["", "../info", "a b", "web-1"] {
            assert!(matches!(inspect(Path::new("/nonexistent"), id, PATIENCE).await, Ok(None)));
        }
    }
}

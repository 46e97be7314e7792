//! A recorded batch through the Datadog agent's own front.

use std::sync::Arc;

use profiler::export::datadog::{DatadogConfig, DatadogEncoder, Form, Grouping};

use crate::intake::uploads;
use crate::recorded::{self, CONTAINER};
use crate::servers::{Server, wait_for};

const VERSION: &str = env!("CARGO_PKG_VERSION");

fn encoder() -> DatadogEncoder {
    let config = DatadogConfig {
        host: "node-1".to_owned(),
        tags: vec![("team".to_owned(), "shop".to_owned())],
        grouping: Grouping::Series,
        over_unix_socket: false,
        remote_symbols: false,
        info: recorded::info(),
    };
    DatadogEncoder::new(config, Arc::default())
}

#[test]
#[ignore = "needs the servers of testservers/ and root: cargo xtask test --real"]
fn a_recorded_batch_reaches_the_intake_byte_for_byte_and_go_reads_every_stack() {
    let Some(server) = Server::start("datadog") else { return };
    let Some(batch) = recorded::batch() else { return };
    // Asked what it is: the front lists its endpoints at /info.
    let messages = recorded::send(&format!("http://{}", server.address), &mut encoder(), &batch);
    assert!(messages.len() >= 2, "a container's and the host's");
    assert_eq!(messages.iter().map(|message| message.samples).sum::<u64>(), batch.samples.len() as u64);

    let uploads = wait_for("all uploads", || {
        let uploads = uploads(server.folder());
        (uploads.len() == messages.len()).then_some(uploads)
    });
    let mut of_the_container = 0;
    for (message, upload) in messages.iter().zip(&uploads) {
        assert_eq!(upload.seen["method"], "POST");
        assert_eq!(upload.seen["path"], "/api/v2/profile");
        assert!(upload.body == message.body, "the body is what was sent");
        let sent =
            |name: &str| message.headers.iter().find(|(header, _)| header == name).map(|(_, value)| value.as_str());
        for (ours, theirs) in [
            ("content-type", "Content-Type"),
            ("dd-evp-origin", "Dd-Evp-Origin"),
            ("dd-evp-origin-version", "Dd-Evp-Origin-Version"),
            ("datadog-container-id", "Datadog-Container-Id"),
            ("datadog-entity-id", "Datadog-Entity-Id"),
        ] {
            assert_eq!(upload.header(theirs), sent(ours), "{theirs}");
        }
        assert_eq!(upload.header("User-Agent"), Some(format!("everflame/{VERSION}").as_str()));
        assert_eq!(upload.header("Dd-Api-Key"), Some("test"));
        assert!(upload.header("Via").is_some_and(|via| via.starts_with("trace-agent")), "the front's own mark");
        assert!(upload.header("X-Datadog-Additional-Tags").is_some_and(|tags| tags.starts_with("host:front,")));

        let event = upload.event();
        let nanoseconds =
            |text: &serde_json::Value| text.as_str().unwrap().len() == "2026-01-02T03:04:05.000000000Z".len();
        assert!(nanoseconds(&event["start"]) && nanoseconds(&event["end"]), "{event}");
        assert_eq!(event["attachments"], serde_json::json!(["cpu.pprof"]));
        assert_eq!((&event["family"], &event["version"]), (&"native".into(), &"4".into()));
        assert_eq!(upload.tag("host").as_deref(), Some("node-1"));
        assert_eq!(upload.tag("team").as_deref(), Some("shop"));
        assert_eq!(upload.tag("profile_seq").as_deref(), Some("0"));

        let own = recorded::assert_go_reads(upload.form().attachment);
        let samples: i64 = own.sample.iter().map(|sample| sample.value[0]).sum();
        assert_eq!(samples as u64, message.samples);
        if upload.tag("service").as_deref() == Some("web") {
            assert_eq!(sent("datadog-container-id"), Some(CONTAINER));
            assert_eq!(upload.tag("kube_namespace").as_deref(), Some("shop"));
            assert_eq!(upload.tag("pod_name").as_deref(), Some("web-7d9c-x2x"));
            let raw = recorded::own_raw(&own);
            assert!(raw.keys().any(|stack| recorded::is_chain(stack)), "{raw:#?}");
            of_the_container += 1;
        }
    }
    assert_eq!(of_the_container, 1);
}

#[test]
#[ignore = "needs the servers of testservers/ and root: cargo xtask test --real"]
fn a_whole_host_is_one_request_that_go_reads() {
    let Some(server) = Server::start("datadog") else { return };
    let Some(batch) = recorded::batch() else { return };
    let config = DatadogConfig {
        host: "node-1".to_owned(),
        tags: Vec::new(),
        grouping: Grouping::WholeHost,
        over_unix_socket: false,
        remote_symbols: false,
        info: recorded::info(),
    };
    let mut encoder = DatadogEncoder::new(config, Arc::default());
    let messages = recorded::send(&format!("datadog+http://{}", server.address), &mut encoder, &batch);
    assert_eq!(messages.len(), 1);
    let uploads = wait_for("the upload", || {
        let uploads = uploads(server.folder());
        (!uploads.is_empty()).then_some(uploads)
    });
    let form = Form::read(uploads[0].header("Content-Type").unwrap(), &uploads[0].body).unwrap();
    let own = recorded::assert_go_reads(form.attachment);
    assert_eq!(own.sample.iter().map(|sample| sample.value[0]).sum::<i64>() as usize, batch.samples.len());
}

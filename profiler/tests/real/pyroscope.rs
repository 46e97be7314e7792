//! A recorded batch into Pyroscope's own generated code and Google's pprof parser.

use std::sync::Arc;

use profiler::export::pyroscope::{PyroscopeConfig, PyroscopeEncoder};

use crate::intake::pushes;
use crate::recorded;
use crate::servers::{Server, wait_for};

#[test]
#[ignore = "needs the servers of testservers/ and root: cargo xtask test --real"]
fn a_recorded_batch_is_taken_and_every_profile_is_valid() {
    let Some(server) = Server::start("pyroscope") else { return };
    let Some(batch) = recorded::batch() else { return };
    let labels = vec![("region".to_owned(), "north".to_owned())];
    let config = PyroscopeConfig { host: "node-1".to_owned(), labels, sample_labels: false, info: recorded::info() };
    let mut encoder = PyroscopeEncoder::new(config, Arc::default());
    let messages = recorded::send(&format!("pyroscope+http://{}", server.address), &mut encoder, &batch);
    assert_eq!(messages.iter().map(|message| message.samples).sum::<u64>(), batch.samples.len() as u64);
    let pushes = wait_for("all profiles", || {
        let pushes = pushes(server.folder());
        (pushes.len() == messages.len()).then_some(pushes)
    });
    let mut of_the_container = 0;
    for (message, push) in messages.iter().zip(&pushes) {
        assert_eq!(push.sums["samples:count"] as u64, message.samples);
        assert_eq!(push.labels["__name__"], "process_cpu");
        assert_eq!(push.labels["region"], "north");
        assert_eq!(push.id.len(), 36, "{}", push.id);
        let own = recorded::assert_go_reads(&push.profile);
        assert_eq!(own.sample.iter().map(|sample| sample.value[1]).sum::<i64>(), push.sums["cpu:nanoseconds"]);
        if push.labels["service_name"] == "web" {
            for (name, value) in [("namespace", "shop"), ("pod", "web-7d9c-x2x"), ("container", "server")] {
                assert_eq!(push.labels[name], value);
            }
            of_the_container += 1;
        }
    }
    assert_eq!(of_the_container, 1);
}
